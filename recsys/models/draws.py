"""Random numbers that depend on their place alone, so that parts of a batch draw as the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from recsys.compiled import compiled
from recsys.data.arrays import IntArray

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 2**64 - 1


@dataclass(frozen=True)
class Draws:
    """The draws of one tower in one training step.

    Attributes:
        key: of the step and tower, below 2**63.
        first_row: place of the first row in the batch's distinct rows.
    """

    key: int
    first_row: int = 0

    @classmethod
    def fresh(cls) -> Draws:
        """With a key from torch's current random state."""
        return cls(int(torch.randint(2**63 - 1, ())))

    def after(self, n_rows: int) -> Draws:
        """Those of a part that begins so many rows later."""
        return replace(self, first_row=self.first_row + n_rows)

    def rows(self, stream: int, n: int) -> IntArray:
        """A number for each of n rows, (n,) uint32, uniform; another ``stream`` gives others.

        SplitMix64 on a counter (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
        generators").
        """
        start = (self.key + (stream << 40) * _GOLDEN + (self.first_row + 1) * _GOLDEN) & _WORD
        drawn = np.empty(n, dtype=np.uint32)
        _fill(np.uint64(start), drawn)
        return drawn


@compiled
def _fill(start: np.uint64, drawn: IntArray) -> None:
    for place in range(len(drawn)):
        mixed = start + np.uint64(place) * np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        drawn[place] = (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(32)


def threshold(share: float) -> int:
    """A uniform uint32 lies below this with probability ``share``, up to 2**-32."""
    return min(round(share * 2**32), 2**32 - 1)
