"""Speed and memory against peers: every figure a ratio taken in one run on one machine."""
