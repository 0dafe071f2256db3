"""Short lists that are sure to hold the best items of a block, from scores in half precision.

Processors with instructions for bfloat16 multiply matrices several times as fast in it as in
float32, to 8 bits instead of 24. How far off a score can be is bounded, so that a few items more
than are wanted hold the best with certainty; those few are then scored in float32.

For a user ``u`` and an item ``v``, rounded to ``u' = u - du`` and ``v' = v - dv``, Cauchy and
Schwarz give ``|uv - u'v'| = |du v + u' dv| <= |du| |v| + |u'| |dv|``, to which comes what sums of
float32 lose. That, with the longest ``v`` and ``dv`` of the block, is the user's ``margin``. Let
``t`` be the k-th largest score found. At least k items score ``t - margin`` or more in truth, and
each item that does was found to score ``t - 2 margin`` or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import BoolArray, FloatArray, IntArray

MINUS_INFINITY = -128  # its bits; those of a number are the upper half of its float32's
GROUPS_A_PLACE = 4  # a list that wants more groups of items than this times k is not short
CANDIDATE_BYTES = 100  # of working memory, at most, for each member of those groups
_HALF_STEP = 2.0**-8  # at most so much of a score is lost by rounding it (and then some)
_TINY = 2.0**-126  # smaller ones may be taken for 0
_HUGE = 1e37  # nothing overflows below it
_SAFETY = 1.01  # for the rounding of lengths
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class HalfVectors:
    """The vectors of a block of items in half precision, and what was lost.

    Attributes:
        vectors: (columns, D) bfloat16.
        longest: length of the longest vector before rounding.
        lost: length of the longest difference that rounding made.
    """

    vectors: Tensor
    longest: float
    lost: float

    @classmethod
    def of(cls, vectors: FloatArray, bits: IntArray) -> HalfVectors:
        """Round vectors (columns, D) float32, a part at a time.

        Args:
            vectors: what to round.
            bits: memory for the result, (columns, D) int16.
        """
        half = torch.from_numpy(bits).view(torch.bfloat16)
        longest = lost = 0.0
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = torch.from_numpy(vectors[rows])
            half[rows] = part
            longest = max(longest, float(_lengths(part).max()))
            lost = max(lost, float(_lengths(part - half[rows]).max()))
        return cls(half, longest, lost)

    def score(self, users: Tensor, bits: IntArray) -> FloatArray:
        """Write the scores of all items for some users, and give each user's margin.

        Args:
            users: vectors, (n, D) float32.
            bits: takes the scores as the bits of bfloat16, (n, columns) int16.

        Returns:
            The margins, (n,) float64; infinite or NaN where there is none to be had.
        """
        rounded = users.to(torch.bfloat16)
        out = torch.from_numpy(bits).view(torch.bfloat16)
        torch.mm(rounded, self.vectors.T, out=out)
        lengths, lost = _lengths(users).numpy(), _lengths(users - rounded).numpy()
        products = lengths * self.longest
        products[products > _HUGE] = np.inf
        dim = users.shape[1]
        off = _SAFETY * (lost * self.longest + (lengths + lost) * self.lost)
        sums = 2.0**-21 * (dim + 16) * products  # eight times the bound on both sums
        margins: FloatArray = off + sums + _TINY * dim * (2 + lengths + self.longest)
        return margins


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return lengths


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Items that may be among the best of their user, users one after another.

    Attributes:
        rows: which user, (C,), not falling.
        members: which member of the group, (C,).
        groups: which group, (C,).
        is_short: of which users these are all, (n,); the others have none here.
    """

    rows: IntArray
    members: IntArray
    groups: IntArray
    is_short: BoolArray


def shortlist(bits: IntArray, margins: FloatArray, k: int) -> Shortlist:
    """All items that can be among the best ``k`` of each user, whatever their true scores.

    Args:
        bits: scores as the bits of bfloat16, (n, members, groups) int16, at least k groups.
        margins: how far off a score may be before it is rounded, (n,).
        k: how many are wanted.
    """
    largest = _maxima(bits)
    # The k-th largest of the maxima is no more than the k-th largest score.
    found = np.partition(largest, largest.shape[1] - k, axis=1)[:, -k].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lowest = found - np.abs(found) * _HALF_STEP - 2 * margins
        bound = (lowest - np.abs(lowest) * _HALF_STEP).astype(np.float32)[:, None]
    wanted = largest >= bound
    too_many = np.count_nonzero(wanted, axis=1) > GROUPS_A_PLACE * k
    wanted[too_many | ~np.isfinite(bound[:, 0])] = False  # without k items, all is in bounds
    owners, groups = _nonzero(wanted)
    scores = _as_floats(bits[owners, :, groups])
    pairs, members = _nonzero(scores >= bound[owners])
    rows = owners[pairs]
    is_short = np.bincount(rows, minlength=len(bits)) >= k
    kept = is_short[rows]
    return Shortlist(rows[kept], members[kept], groups[pairs][kept], is_short)


def _maxima(bits: IntArray) -> FloatArray:
    """The largest score of each group, (n, groups) float32."""
    largest = bits.max(axis=1)
    # Bits of numbers below zero rise as the numbers fall, and are below those of the others.
    below = largest < 0
    if below.any():
        largest = np.where(below, bits.min(axis=1), largest)
    return _as_floats(largest)


def _nonzero(values: BoolArray) -> tuple[IntArray, IntArray]:
    """(row, column) of what is true, row by row; several times as fast as ``np.nonzero``."""
    return np.divmod(np.flatnonzero(values), values.shape[1])


def _as_floats(bits: IntArray) -> FloatArray:
    floats: FloatArray = (bits.astype(np.int32) << 16).view(np.float32)
    return floats
