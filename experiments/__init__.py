"""What is started from the command line: runs, sweeps, comparisons, serving."""

import os

# Threads that spin while they wait take the cores from what else runs: two runs at once on two
# cores took ten times as long. OpenMP looks when PyTorch is imported, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
