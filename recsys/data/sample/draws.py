"""Draws that come out the same on every machine: whole numbers from beginning to end.

NumPy promises that the raw stream of a bit generator stays as it is, but not that of
``Generator.integers`` or ``Generator.normal``. What is published with a digest is therefore drawn
from the raw stream, and probabilities are whole-number weights.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from recsys.data.arrays import IntArray

NAT = 1024
"""Whole-number units that make one nat of utility."""
_WEIGHT_OF_BEST = 2**30
_NATS_UNTIL_NOTHING = 20


def stream(seed: int, stage: int) -> np.random.Generator:
    """The draws of one stage of a generator; stages do not disturb one another."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stage,))))


def below(rng: np.random.Generator, bound: int | IntArray, size: int | tuple[int, ...]) -> IntArray:
    """Uniform whole numbers from 0 to ``bound - 1``, (size) int64.

    The remainder of 64 raw bits: with bounds up to 2**41 no value is favoured by more than a
    ten-millionth.
    """
    raw = np.asarray(rng.bit_generator.random_raw(int(np.prod(size))), dtype=np.uint64)
    return (raw.reshape(size) % np.asarray(bound, dtype=np.uint64)).astype(np.int64)


def bell(rng: np.random.Generator, deviation: int, size: int | tuple[int, ...]) -> IntArray:
    """Bell-shaped whole numbers about 0: sums of twelve uniform ones, (size) int64.

    Args:
        rng: where the draws come from.
        deviation: roughly the standard deviation; even.
        size: shape of the result.
    """
    half = deviation // 2
    shape = (size,) if isinstance(size, int) else size
    draws: IntArray = below(rng, 2 * half + 1, (*shape, 12)).sum(axis=-1) - 12 * half
    return draws


def draw(rng: np.random.Generator, weights: IntArray, size: int) -> IntArray:
    """Indices drawn in proportion to whole-number weights, (size,) int64."""
    cumulative = np.cumsum(weights)
    return np.searchsorted(cumulative, below(rng, int(cumulative[-1]), size), side="right")


def pick(rng: np.random.Generator, weights: IntArray) -> IntArray:
    """One column of each row, drawn in proportion to the row's weights, (n,) int64.

    Args:
        rng: where the draws come from.
        weights: whole numbers, (n, m) int64; each row's sum at least 1 and below 2**41.
    """
    cumulative = np.cumsum(weights, axis=1)
    thresholds = below(rng, cumulative[:, -1], len(weights))
    chosen: IntArray = np.argmax(cumulative > thresholds[:, None], axis=1)
    return chosen


def exponential_weights(utilities: IntArray) -> IntArray:
    """Weights in proportion to ``exp(utilities / NAT)``, the best of each row weighing 2**30.

    Args:
        utilities: (n, m) int64, in units of 1/NAT nat.

    Returns:
        (n, m) int64; 0 for what lies 20 nats or more below the best of its row.
    """
    table = _exponential_table()
    deficits = utilities.max(axis=1, keepdims=True) - utilities
    weights: IntArray = table[np.minimum(deficits, len(table) - 1)]
    return weights


@cache
def _exponential_table() -> IntArray:
    """Round(2**30 * exp(-k / NAT)) for k from 0 to 20 nats, the last entry 0.

    None lies nearer than 4e-5 to a half, so that the last bits of ``exp``, which differ between C
    libraries, decide nothing.
    """
    deficits = np.arange(_NATS_UNTIL_NOTHING * NAT) / NAT
    weights: IntArray = np.rint(_WEIGHT_OF_BEST * np.exp(-deficits)).astype(np.int64)
    return np.append(weights, 0)
