"""The loops between the matrix products of a tower, each one pass over memory."""

from __future__ import annotations

import math

import numpy as np

from recsys.compiled import compiled
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.narrow import narrow, widen

SHORTEST = np.float32(1e-12)
"""A shorter row is divided by this, as :func:`torch.nn.functional.normalize` does."""


@compiled
def known_rows(rows: IntArray, gradient: FloatArray) -> tuple[IntArray, FloatArray]:
    """Rows and gradients without those of row 0."""
    places = np.flatnonzero(rows)
    known = np.empty(len(places), np.int64)
    slopes = np.empty((len(places), gradient.shape[1]), np.float32)
    for position in range(len(places)):
        place = places[position]
        known[position] = rows[place]
        for d in range(gradient.shape[1]):
            slopes[position, d] = gradient[place, d]
    return known, slopes


@compiled
def gather(
    offsets: IntArray,
    columns: IntArray,
    shares: FloatArray,
    rows: IntArray,
    weight: FloatArray,
    total: FloatArray,
) -> None:
    """Add to each row of ``total`` the weighted sum of the rows of ``weight`` that its bag names.

    Four entries at a time, so that a row of ``total`` is read and written a quarter as often.
    """
    shared, once = len(shares) > 0, np.float32(1)
    for place in range(len(rows)):
        start, stop = offsets[rows[place]], offsets[rows[place] + 1]
        in_fours = stop - (stop - start) % 4
        for entry in range(start, in_fours, 4):
            c0, c1 = columns[entry], columns[entry + 1]
            c2, c3 = columns[entry + 2], columns[entry + 3]
            s0, s1, s2, s3 = once, once, once, once
            if shared:
                s0, s1 = shares[entry], shares[entry + 1]
                s2, s3 = shares[entry + 2], shares[entry + 3]
            for d in range(weight.shape[1]):
                total[place, d] += (
                    s0 * widen(weight[c0, d])
                    + s1 * widen(weight[c1, d])
                    + s2 * widen(weight[c2, d])
                    + s3 * widen(weight[c3, d])
                )
        for entry in range(in_fours, stop):
            share = shares[entry] if shared else once
            column = columns[entry]
            for d in range(weight.shape[1]):
                total[place, d] += share * widen(weight[column, d])


@compiled
def scatter(
    offsets: IntArray,
    columns: IntArray,
    shares: FloatArray,
    rows: IntArray,
    gradient: FloatArray,
    to_weight: FloatArray,
) -> None:
    """Add to the rows of a weight what :func:`gather` took from them, times the gradient."""
    for place in range(len(rows)):
        for entry in range(offsets[rows[place]], offsets[rows[place] + 1]):
            share = shares[entry] if len(shares) else np.float32(1)
            column = columns[entry]
            for d in range(to_weight.shape[1]):
                to_weight[column, d] += share * gradient[place, d]


@compiled
def keep_active(
    units: FloatArray, keys: IntArray, limit: np.uint32, scale: np.float32, active: FloatArray
) -> None:
    """ReLU and dropout, by the hash of :func:`recsys.models.dropout.is_kept`."""
    for row in range(len(units)):
        key = keys[row]
        for column in range(units.shape[1]):
            mixed = np.uint32(key + np.uint32(np.uint32(column) * np.uint32(0x9E3779B1)))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            mixed = np.uint32(mixed ^ (mixed >> np.uint32(16)))
            unit = units[row, column]
            kept = np.float32(0) if mixed < limit or unit <= 0 else unit * scale  # NaN stays NaN
            active[row, column] = narrow(kept, active)


@compiled
def pass_active(
    gradient: FloatArray, active: FloatArray, scale: np.float32, through: FloatArray
) -> None:
    """The gradient of what entered :func:`keep_active`: it passes where the output is above 0."""
    for row in range(len(active)):
        for column in range(active.shape[1]):
            passed = widen(gradient[row, column]) * scale
            is_active = active[row, column] > 0  # of a bfloat16 the bits: they are not negative
            through[row, column] = passed if is_active else np.float32(0)


@compiled
def set_side_by_side(ids: FloatArray, metadata: FloatArray, both: FloatArray) -> None:
    """Fill in both, (n, 2 D), from (n, D) each."""
    dim = ids.shape[1]
    for row in range(len(both)):
        for d in range(dim):
            both[row, d] = narrow(ids[row, d], both)
        for d in range(dim):
            both[row, dim + d] = narrow(widen(metadata[row, d]), both)


@compiled
def add_sides(both: FloatArray, ids: FloatArray, metadata: FloatArray) -> None:
    """Undo :func:`set_side_by_side` for gradients: add each half to its own."""
    dim = ids.shape[1]
    for row in range(len(both)):
        for d in range(dim):
            ids[row, d] += widen(both[row, d])
        for d in range(dim):
            metadata[row, d] += widen(both[row, dim + d])


@compiled
def mix(
    gates: FloatArray, ids: FloatArray, metadata: FloatArray, is_known: BoolArray, mixed: FloatArray
) -> None:
    """Fill in what is mixed, and close the gates of ids that are not known."""
    for row in range(len(mixed)):
        known = np.float32(1) if is_known[row] else np.float32(0)
        for d in range(mixed.shape[1]):
            gate = gates[row, d] * known
            gates[row, d] = gate
            other = widen(metadata[row, d])
            mixed[row, d] = other + gate * (ids[row, d] - other)


@compiled
def unmix(
    gates: FloatArray,
    ids: FloatArray,
    metadata: FloatArray,
    gradient: FloatArray,
    to_logits: FloatArray,
    to_ids: FloatArray,
    to_metadata: FloatArray,
) -> None:
    """The gradients of all three that :func:`mix` took; of the logits behind the gates."""
    for row in range(len(gradient)):
        for d in range(gradient.shape[1]):
            gate, slope = gates[row, d], gradient[row, d]
            to_ids[row, d] = slope * gate
            to_metadata[row, d] = slope * (np.float32(1) - gate)
            apart = ids[row, d] - widen(metadata[row, d])
            to_logit = slope * apart * gate * (np.float32(1) - gate)
            to_logits[row, d] = narrow(to_logit, to_logits)


@compiled
def scale_to(
    vectors: FloatArray, length: np.float32, scaled: FloatArray, inverse: FloatArray
) -> None:
    """Give each row this length, and one over the length that it had."""
    for row in range(len(vectors)):
        square = np.float32(0)
        for d in range(vectors.shape[1]):
            square += vectors[row, d] * vectors[row, d]
        inverse[row] = np.float32(1) / max(np.float32(math.sqrt(square)), SHORTEST)
        factor = length * inverse[row]
        for d in range(vectors.shape[1]):
            scaled[row, d] = vectors[row, d] * factor


@compiled
def take_across(
    gradient: FloatArray,
    scaled: FloatArray,
    inverse: FloatArray,
    length: np.float32,
    across: FloatArray,
) -> float:
    """The gradient of what was scaled; gives that of the length."""
    to_length = np.float64(0)
    for row in range(len(scaled)):
        along = np.float32(0)
        for d in range(scaled.shape[1]):
            along += gradient[row, d] * scaled[row, d]
        along /= length
        factor = length * inverse[row]
        for d in range(scaled.shape[1]):
            across[row, d] = (gradient[row, d] - scaled[row, d] * (along / length)) * factor
        to_length += along
    return float(to_length)


@compiled
def sum_squares(ids: FloatArray, metadata: FloatArray, is_known: BoolArray) -> float:
    """The sum of :func:`recsys.training.losses.mimic_sum`."""
    total = np.float64(0)
    for row in range(len(ids)):
        if is_known[row]:
            distance = np.float32(0)
            for d in range(ids.shape[1]):
                apart = widen(metadata[row, d]) - ids[row, d]
                distance += apart * apart
            total += distance / np.float32(ids.shape[1])
    return float(total)


@compiled
def pull_to_ids(
    ids: FloatArray,
    metadata: FloatArray,
    is_known: BoolArray,
    slope: np.float32,
    to_metadata: FloatArray,
) -> None:
    """Add the gradient of :func:`sum_squares` in the metadata, times a slope."""
    for row in range(len(ids)):
        pull = np.float32(2) * slope / np.float32(ids.shape[1])
        if not is_known[row]:
            pull = np.float32(0)
        for d in range(ids.shape[1]):
            to_metadata[row, d] += pull * (widen(metadata[row, d]) - ids[row, d])
