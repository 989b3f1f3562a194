import pandas as pd, torch
from torch import nn
from mlops_kit.export import calendar
from mlops_kit.signature import Field, from_table
