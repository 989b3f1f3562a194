import re
import torch
from torch import nn
from mlops_kit.signature import Field
from {= package =}.data import ALPHABET, HIDDEN, LETTERS
