"""A side of a comparison, as a process of its own: it runs once for each line it is sent.

Called as ``python -m benchmarks.serve MODULE:FUNCTION JSON``. The function takes the JSON object as
keyword arguments, sets everything up, and gives back what is to be timed: a function without
arguments that returns what it counted. Standard library alone, since peers run it too.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time


def main() -> None:
    """Set up, say so, then answer every line of standard input with one run's figures."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    module, function = sys.argv[1].split(":")
    run = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    print(json.dumps({"ready": True}), file=channel)
    for _ in sys.stdin:
        cpu, started = time.process_time(), time.perf_counter()
        counted = run()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        answer = {
            # A side that times a part of its work itself says so in what it counted.
            "seconds": counted.pop("seconds", seconds),
            "cpu_seconds": counted.pop("cpu_seconds", cpu),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "counted": counted,
        }
        print(json.dumps(answer), file=channel)


if __name__ == "__main__":
    main()
