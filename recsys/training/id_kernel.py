"""The step of :mod:`recsys.training.id_step`, compiled by numba.

The gradient of a cosine needs no pass of its own. With ``g`` the slope of the loss in a logit
``l = m . w / |w|``, the gradient of ``w`` is ``(sum g m - (sum g l) w / |w|) / |w|``: both sums are
taken beside the logits. What is left is waiting for memory, so rows are asked for ahead of use:
without that, a step takes three times as long.

Every row is moved by one thread, and its sums run in the order of the batch: the number of threads
changes no bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from recsys.compiled import compiled, inner
from recsys.data.arrays import FloatArray, IntArray
from recsys.training.compilation import MAX_THREADS, ask_for, side_by_side
from recsys.training.losses import judge
from recsys.training.tower_kernels import SHORTEST

ONE, ZERO = np.float32(1), np.float32(0)
AHEAD = 4
"""How many users, positives or items ahead of the one at hand rows are asked for."""
Span = tuple[int, int]


class Table(NamedTuple):
    """The rows of a tower, each (n + 1, D) float32; index i owns row i + 1.

    Attributes:
        weight: the vectors.
        means: Adam's running means of gradients.
        squares: Adam's running means of their squares.
    """

    weight: FloatArray
    means: FloatArray
    squares: FloatArray


class Numbers(NamedTuple):
    """What a step multiplies by.

    Attributes:
        scale: cosine: one over the temperature; dot: 1.
        is_cosine: whether vectors are normalised.
        step_size: Adam's, with both bias corrections.
        new_mean: 1 - beta1.
        new_square: 1 - beta2.
        epsilon: beside the uncorrected mean square, as RowAdam has it.
    """

    scale: np.float32
    is_cosine: bool
    step_size: np.float32
    new_mean: np.float32
    new_square: np.float32
    epsilon: np.float32


class Scratch(NamedTuple):
    """Memory that steps use again.

    Attributes:
        user_seats: for each row of the users' table -1 between steps, (U + 1,) int32.
        item_seats: the same for items, (I + 1,) int32.
        matched: users' vectors as they enter the product, (B, D) float32.
    """

    user_seats: IntArray
    item_seats: IntArray
    matched: FloatArray


class Drawn(NamedTuple):
    """A batch: users (B,) and items (B,) of positives, and their negatives (B, K), by index."""

    users: IntArray
    items: IntArray
    negatives: IntArray


class Groups(NamedTuple):
    """The m distinct rows among n, and where each occurs.

    Attributes:
        rows: of the table, (m,) int32.
        offsets: where the places of each begin, and the end; (m + 1,) int32.
        places: positions among the n, those of a row ascending; (n,) int32.
        group_of: position in ``rows`` of each of the n, (n,) int32.
    """

    rows: IntArray
    offsets: IntArray
    places: IntArray
    group_of: IntArray


class Pairs(NamedTuple):
    """Who meets whom, and what came of it.

    Attributes:
        met: rows of each positive's item and of its negatives, (B, 1 + K) int32.
        matched: as in :class:`Scratch`; row g is of the g-th distinct user.
        inverses: what the rows met are multiplied by, (B, 1 + K) float32.
        logits: (B, 1 + K) float32.
        slopes: of the loss in each logit, (B, 1 + K) float32.
        sums: of each distinct user the softplus of its positives, of its negatives, and slopes
            times logits; (m, 3) float64.
    """

    met: IntArray
    matched: FloatArray
    inverses: FloatArray
    logits: FloatArray
    slopes: FloatArray
    sums: FloatArray


@inner
def group(rows: IntArray, seats: IntArray) -> Groups:
    """The distinct rows, in the order of their first places.

    Args:
        rows: (n,) int32.
        seats: of :class:`Scratch`.
    """
    n, m = len(rows), 0
    distinct, group_of = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    offsets = np.zeros(n + 2, dtype=np.int32)
    for place in range(n):
        row = rows[place]
        assert 0 < row < len(seats), "a train batch holds warm indices only"
        if seats[row] < 0:
            seats[row] = m
            distinct[m] = row
            m += 1
        group_of[place] = seats[row]
        offsets[seats[row] + 2] += 1
    for g in range(m):
        seats[distinct[g]] = -1
        offsets[g + 2] += offsets[g + 1]
    places = np.empty(n, dtype=np.int32)
    for place in range(n):
        # One to the right of where they belong, offsets count up to the next group's start.
        places[offsets[group_of[place] + 1]] = place
        offsets[group_of[place] + 1] += 1
    return Groups(distinct[:m], offsets[: m + 1], places, group_of)


@inner
def arrange(drawn: Drawn, scratch: Scratch) -> tuple[Pairs, Groups, Groups]:
    """The pairs, yet to be judged, grouped by user (places are positives) and by item (pairs)."""
    n, k = drawn.negatives.shape
    rows, met = np.empty(n, dtype=np.int32), np.empty((n, 1 + k), dtype=np.int32)
    for place in range(n):
        rows[place] = drawn.users[place] + 1
        met[place, 0] = drawn.items[place] + 1
        for column in range(k):
            met[place, 1 + column] = drawn.negatives[place, column] + 1
    by_user = group(rows, scratch.user_seats)
    by_item = group(met.ravel(), scratch.item_seats)
    inverses = np.empty(met.shape, dtype=np.float32)
    logits, slopes = np.empty_like(inverses), np.empty_like(inverses)
    sums = np.zeros((len(by_user.rows), 3))
    return Pairs(met, scratch.matched, inverses, logits, slopes, sums), by_user, by_item


@inner
def inverse_norm(square: np.float32, is_cosine: bool) -> np.float32:
    """What a row is multiplied by where it enters a product, from its product with itself."""
    return ONE / max(np.float32(math.sqrt(square)), SHORTEST) if is_cosine else ONE


@inner
def project(
    vectors: FloatArray, i: int, weight: FloatArray, row: int
) -> tuple[np.float32, np.float32]:
    """The product of a vector with a row, and of the row with itself."""
    product, square = ZERO, ZERO
    for d in range(weight.shape[1]):
        product += vectors[i, d] * weight[row, d]
        square += weight[row, d] * weight[row, d]
    return product, square


@inner
def add_row(total: FloatArray, factor: np.float32, rows: FloatArray, row: int) -> None:
    """Add a multiple of a row."""
    for d in range(len(total)):
        total[d] += factor * rows[row, d]


@inner
def move(
    table: Table, row: int, total: FloatArray, factor: np.float32, along: np.float32, by: Numbers
) -> None:
    """Adam on one row.

    Args:
        table: of the tower.
        row: which.
        total: sum of slopes times what the row met, (D,).
        factor: what the row is multiplied by where it enters a product.
        along: share of the row itself in its gradient, taken away; 0 for ``dot``.
        by: the rates.
    """
    weight, means, squares = table
    for d in range(len(total)):
        slope = factor * total[d] - along * weight[row, d]
        mean = means[row, d] + (slope - means[row, d]) * by.new_mean
        square = squares[row, d] + (slope * slope - squares[row, d]) * by.new_square
        means[row, d] = mean
        squares[row, d] = square
        weight[row, d] -= by.step_size * mean / (np.float32(math.sqrt(square)) + by.epsilon)


@inner
def move_users(
    table: Table, items: FloatArray, users: Groups, pairs: Pairs, by: Numbers, span: Span
) -> None:
    """Logits and slopes of all pairs, and Adam on the rows of some distinct users."""
    start, stop = span
    weight, means, squares = table
    rows, offsets, places, _ = users
    met, matched, inverses, logits, slopes, sums = pairs
    total = np.empty(items.shape[1], dtype=np.float32)
    for user in range(start, stop):
        if user + AHEAD < stop:
            ask_for(weight, rows[user + AHEAD])
            ask_for(means, rows[user + AHEAD])
            ask_for(squares, rows[user + AHEAD])
        row = rows[user]
        inverse = inverse_norm(project(weight, row, weight, row)[1], by.is_cosine)
        for d in range(len(total)):
            matched[user, d] = by.scale * inverse * weight[row, d]
            total[d] = 0
        for entry in range(offsets[user], offsets[user + 1]):
            place = places[entry]
            for column in range(met.shape[1]):
                if entry + AHEAD < offsets[stop]:
                    ask_for(items, met[places[entry + AHEAD], column])
                product, square = project(matched, user, items, met[place, column])
                inverses[place, column] = inverse_norm(square, by.is_cosine)
                logits[place, column] = product * inverses[place, column]
            judge(logits, slopes, place, sums, user)
            for column in range(met.shape[1]):
                factor = slopes[place, column] * inverses[place, column]
                add_row(total, factor, items, met[place, column])
        along = np.float32(sums[user, 2]) * inverse * inverse if by.is_cosine else ZERO
        move(table, row, total, by.scale * inverse, along, by)


@inner
def move_items(
    table: Table, items: Groups, user_of: IntArray, pairs: Pairs, by: Numbers, span: Span
) -> None:
    """Adam on the rows of some distinct items, once slopes are known."""
    start, stop = span
    weight, means, squares = table
    rows, offsets, places, _ = items
    _, matched, inverses, logits, slopes, _ = pairs
    width = np.uint32(slopes.shape[1])
    total = np.empty(weight.shape[1], dtype=np.float32)
    for item in range(start, stop):
        if item + AHEAD < stop:
            ask_for(weight, rows[item + AHEAD])
            ask_for(means, rows[item + AHEAD])
            ask_for(squares, rows[item + AHEAD])
        total[:] = 0
        pull, inverse = ZERO, ZERO
        for entry in range(offsets[item], offsets[item + 1]):
            place, column = divmod(np.uint32(places[entry]), width)
            add_row(total, slopes[place, column], matched, user_of[place])
            pull += slopes[place, column] * logits[place, column]
            inverse = inverses[place, column]
        along = pull * inverse * inverse if by.is_cosine else ZERO
        move(table, rows[item], total, inverse, along, by)


@inner
def span(n: int, part: int, n_parts: int) -> Span:
    """Where one of n parts begins and ends."""
    return n * part // n_parts, n * (part + 1) // n_parts


@inner
def total_sums(pairs: Pairs) -> tuple[float, float, float]:
    """The sums of all users."""
    positive, negative, pull = 0.0, 0.0, 0.0
    for user in range(len(pairs.sums)):
        positive += pairs.sums[user, 0]
        negative += pairs.sums[user, 1]
        pull += pairs.sums[user, 2]
    return positive, negative, pull


@side_by_side
def move_all_users(
    table: Table, items: FloatArray, users: Groups, pairs: Pairs, by: Numbers, n_threads: int
) -> None:
    """:func:`move_users`, some on each thread."""
    for part in numba.prange(n_threads):
        move_users(table, items, users, pairs, by, span(len(users.rows), part, n_threads))


@side_by_side
def move_all_items(
    table: Table, items: Groups, user_of: IntArray, pairs: Pairs, by: Numbers, n_threads: int
) -> None:
    """:func:`move_items`, some on each thread."""
    for part in numba.prange(n_threads):
        move_items(table, items, user_of, pairs, by, span(len(items.rows), part, n_threads))


@compiled
def compiled_step(
    users: Table, items: Table, drawn: Drawn, scratch: Scratch, by: Numbers, n_threads: int
) -> tuple[float, float, float]:
    """What :func:`step` does."""
    pairs, by_user, by_item = arrange(drawn, scratch)
    move_all_users(users, items.weight, by_user, pairs, by, n_threads)
    move_all_items(items, by_item, by_user.group_of, pairs, by, n_threads)
    return total_sums(pairs)


def step(
    users: Table, items: Table, drawn: Drawn, scratch: Scratch, by: Numbers, n_threads: int
) -> tuple[float, float, float]:
    """Move users' and items' rows by one batch, on at most ``MAX_THREADS`` threads.

    Returns:
        The sums over positives of their softplus, and over negatives; and of slopes times logits.
    """
    n_threads = min(n_threads, MAX_THREADS)
    before = numba.get_num_threads()
    numba.set_num_threads(n_threads)
    try:
        return compiled_step(users, items, drawn, scratch, by, n_threads)
    finally:
        numba.set_num_threads(before)
