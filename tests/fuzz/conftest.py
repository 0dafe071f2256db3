"""How many mutated inputs a fuzzer gets: ``BOOKENDS_FUZZ``, few in the ordinary suite."""

import os
import random
import time
from collections import Counter

import pytest

N_INPUTS = int(os.environ.get("BOOKENDS_FUZZ", "100"))
LONGEST_SECONDS = 10
TALLIES = {}


@pytest.fixture
def tally(request):
    """Counts what became of inputs, shown at the end."""
    return TALLIES.setdefault(request.node.nodeid, Counter())


@pytest.fixture
def inputs(request):
    """A random generator for each input; none may take ten seconds, and what fails is named."""
    number = 0

    def generators():
        nonlocal number
        for number in range(N_INPUTS):
            started = time.monotonic()
            yield random.Random(number)
            assert time.monotonic() - started < LONGEST_SECONDS

    yield generators()
    print(f"the last input was of random.Random({number})")


def pytest_terminal_summary(terminalreporter):
    """One line for each fuzzer."""
    for name, tally in TALLIES.items():
        counts = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()))
        terminalreporter.write_line(f"{name}: {tally.total()} inputs, {counts}")
