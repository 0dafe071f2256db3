"""How large the worlds are, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides import ROOT


@dataclass(frozen=True)
class Log:
    """Size of a generated log of interactions."""

    interactions: int
    users: int
    items: int


@dataclass(frozen=True)
class Sizes:
    """Sizes and rounds of one run of the benchmark.

    Attributes:
        name: "full" or "quick".
        training: users, items and train interactions of the training and evaluation bars.
        steps: at each batch size, steps in a timed run.
        data_path: the log of the data path.
        large_data_path: the log of the data path's outer goal; None leaves it out.
        second_use: the log of the second use.
        growth: the smallest log of the growth curves; each side of it grows tenfold.
        wide: (users, items) of the memory of evaluation.
        rounds: timed runs of each side.
    """

    name: str
    training: Log
    steps: dict[int, int]
    data_path: Log
    large_data_path: Log | None
    second_use: Log
    growth: Log
    wide: tuple[tuple[int, int], ...]
    rounds: int

    @property
    def folder(self) -> Path:
        """Where this size keeps what it generates."""
        return ROOT / ".bench" / self.name


FULL = Sizes(
    name="full",
    training=Log(2_000_000, 53_424, 10_000),
    steps={512: 200, 1024: 100, 8192: 25},
    data_path=Log(10_000_000, 1_500_000, 1_000_000),
    large_data_path=Log(30_000_000, 4_500_000, 3_000_000),
    second_use=Log(1_000_000, 150_000, 100_000),
    growth=Log(200_000, 10_000, 4_000),
    wide=((5_000, 1_000_000), (1_000_000, 1_000)),
    rounds=5,
)
QUICK = Sizes(
    name="quick",
    training=Log(100_000, 4_000, 1_500),
    steps={512: 20, 1024: 10, 8192: 5},
    data_path=Log(300_000, 45_000, 30_000),
    large_data_path=None,
    second_use=Log(100_000, 15_000, 10_000),
    growth=Log(20_000, 2_000, 1_000),
    wide=((500, 100_000), (50_000, 500)),
    rounds=3,
)
