"""How many mutated inputs a fuzzer gets: ``BOOKENDS_FUZZ``, few in the ordinary suite."""

import copy
import os
import random
import time
from collections import Counter

import pytest

N_INPUTS = int(os.environ.get("BOOKENDS_FUZZ", "100"))
LONGEST_SECONDS = 10
TALLIES = {}
VALUES = [None, True, -1, 0, 1, 3, 0.5, 1e308, 10**400, 10**9, 2**31, 2**63, "NaN", "", "x"]
VALUES += ["\ud800", "identity", "sum", [], {}, [1], ["x"], {"a": 1}, [[]]]


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


def _change_json(rng, content, names):
    """Another value in a random place, or none, or one more."""
    while True:
        places = list(content) if isinstance(content, dict) else range(len(content))
        if not places:
            return
        place = rng.choice(list(places))
        if isinstance(content[place], dict | list) and content[place] and rng.random() < 0.8:
            content = content[place]
            continue
        match rng.randrange(6):
            case 0:
                del content[place]
            case 1 if isinstance(content, dict):
                content[rng.choice(names)] = copy.deepcopy(rng.choice(VALUES))
            case 1:
                content.append(content[place])
            case _:
                content[place] = copy.deepcopy(rng.choice(VALUES))
        return


@pytest.fixture
def change_json():
    """Changes JSON in place: a generator, the content, and names that may be put in."""
    return _change_json


def pytest_terminal_summary(terminalreporter):
    """One line for each fuzzer."""
    for name, tally in TALLIES.items():
        counts = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()))
        terminalreporter.write_line(f"{name}: {tally.total()} inputs, {counts}")
