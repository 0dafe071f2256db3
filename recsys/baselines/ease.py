"""EASE: every item predicted from all others by one ridge regression each (Steck 2019).

The weights that minimise ``|X - X W|^2 + l2 |W|^2`` with a diagonal of 0 are in closed form

    P = (X'X + l2 I)^-1,   W = I - P diag(1 / P_jj).

Where users are fewer than items, ``P = (I - X'(X X' + l2 I)^-1 X) / l2`` inverts a matrix of users
instead (Woodbury).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from recsys.baselines.baseline import Fitted, item_weights
from recsys.data.arrays import FloatArray
from recsys.data.histories import Histories

_DOUBLE_UP_TO = 4096  # items; beyond, float32 halves time and memory
_AT_ONCE = 512  # rows or columns


def fit_ease(histories: Histories, *, l2: float) -> Fitted:
    """The weights in closed form; an item that nobody has gets and gives 0.

    Args:
        histories: of users.
        l2: weight of the squared weights.
    """
    n_users, n_items = histories.matrix.shape
    smaller = n_users < n_items // 2
    inverse = (_by_users if smaller else _by_items)(histories, l2)
    diagonal = inverse.diagonal().astype(np.float32)
    # P is symmetric: its transpose lies in memory row by row, as scorers read it.
    weights = inverse.T.astype(np.float32, order="C", copy=False)
    weights /= -diagonal  # column i by its own P_ii
    np.fill_diagonal(weights, 0)
    return item_weights(weights)


def ease_bytes(n_items: int) -> int:
    """Memory that fitting takes: the weights at work and the best so far, in float32."""
    return 2 * 4 * n_items**2


def _by_items(histories: Histories, l2: float) -> FloatArray:
    kind = np.float64 if len(histories.counts) <= _DOUBLE_UP_TO else np.float32
    gram = histories.together.astype(kind, copy=False).toarray(order="F")
    gram[np.diag_indices_from(gram)] += kind(l2)
    return _inverse(gram)


def _by_users(histories: Histories, l2: float) -> FloatArray:
    matrix = histories.matrix.astype(np.float64)  # (U, I)
    outer = (matrix @ matrix.T).toarray(order="F")
    outer[np.diag_indices_from(outer)] += l2
    inner = _inverse(outer)
    n_items = matrix.shape[1]
    result = np.empty((n_items, n_items), dtype=np.float32, order="F")
    transposed, columns = matrix.T.tocsr(), matrix.tocsc()
    for start in range(0, n_items, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        # inner is symmetric, so a sparse matrix may stand to its left.
        result[:, part] = transposed @ (columns[:, part].T @ inner).T
    np.negative(result, out=result)
    result[np.diag_indices_from(result)] += 1
    result /= np.float32(l2)
    return result


def _inverse(matrix: FloatArray) -> FloatArray:
    """The inverse of a symmetric positive definite matrix, in its memory; both in Fortran order."""
    double = matrix.dtype == np.float64
    factor, invert = (lapack.dpotrf, lapack.dpotri) if double else (lapack.spotrf, lapack.spotri)
    triangle, failed = factor(matrix, lower=1, overwrite_a=1)
    assert failed == 0, "the matrix is not positive definite"
    inverse, failed = invert(triangle, lower=1, overwrite_c=1)
    assert failed == 0, "the triangle is singular"
    for start in range(0, len(inverse), _AT_ONCE):  # the upper triangle from the lower
        part = slice(start, start + _AT_ONCE)
        inverse[:start, part] = inverse[part, :start].T
        block = inverse[part, part]
        upper = np.triu_indices(len(block), 1)
        block[upper] = block.T[upper]
    filled: FloatArray = inverse
    return filled
