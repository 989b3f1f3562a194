from torch import nn
from mlops_kit.signature import Field
