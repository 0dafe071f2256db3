"""What the process imports that others are forked from; to be imported by nothing else."""

import gc
import os
from importlib import import_module

# A Ctrl-C goes to all of a group: the parent is in it, and ends what it started.
os.setpgid(0, 0)
import_module("experiments.sweep.worker")
torch = import_module("torch")
torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports torch._dynamo
gc.freeze()  # a collection writes into all that it looks at, and what is written is copied
