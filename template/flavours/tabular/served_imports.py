import torch
from torch import nn
from mlops_kit.export import calendar
from mlops_kit.signature import contract_fields
from {= package =}.model import KINDS, PARTS
