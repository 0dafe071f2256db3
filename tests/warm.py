"""What a server of forks does once for all: PyTorch and MLflow put it off to their first use."""

import torch
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports torch._dynamo
warn_dependency_requirement_mismatches(["mlflow"])  # the first model reads all packages' files
