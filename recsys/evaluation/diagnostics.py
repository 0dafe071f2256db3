"""What the towers learned: norms, dimensions, gates, neighbourhoods and alignment, as tables.

Every function takes plain arrays and hands back tables; none needs the network. A *space* is one
kind of vector on one side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.config import DiagnosticsConfig
from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions
from recsys.evaluation.cohesion import cohesion_table, sample
from recsys.evaluation.intervals import mean_interval
from recsys.evaluation.segments import MANY, ranges_of
from recsys.evaluation.tables import Table

DEAD_FRACTION = 0.01
HISTOGRAM_BINS = 24
GATE_EDGES = (0, 1, 6, 11, 21, 51, 101, 501, MANY)
"""Numbers of train interactions at which a bucket of gates begins and the one before ends."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What one tower makes of each of its n rows.

    Attributes:
        vectors: tower output, (n, D).
        ids: id embeddings, (m, D) with m at most n: those of the first m rows, the ones seen in
            training; None where the tower has none.
        metadata: metadata embeddings, (n, D); None where the tower uses none.
        gates: share of the id embedding in each dimension, 1 the id alone, 0 the metadata alone,
            (n, D); None where the fusion has no gate.
    """

    vectors: FloatArray
    ids: FloatArray | None = None
    metadata: FloatArray | None = None
    gates: FloatArray | None = None

    @property
    def spaces(self) -> dict[str, FloatArray]:
        """The vectors that exist, by name, those without rows left out."""
        named = {"tower": self.vectors, "id": self.ids, "metadata": self.metadata}
        return {name: space for name, space in named.items() if space is not None and len(space)}


def diagnose(
    users: Embeddings,
    items: Embeddings,
    *,
    train: Interactions,
    categories: Bags | None,
    config: DiagnosticsConfig,
    rng: np.random.Generator,
) -> tuple[Table, ...]:
    """All embedding diagnostics; those whose input is missing are left out.

    Args:
        users: what the user tower makes of every user.
        items: what the item tower makes of every item.
        train: train interactions, with as many users and items as there are vectors.
        categories: categories of every item; None where the data has none.
        config: how many are drawn, and how many neighbours an item has.
        rng: draws the samples and the random pairs.
    """
    tables = [norm_table(users, items), norm_histogram(users, items)]
    tables += [dimension_table(users, items), dimension_spread(users, items)]
    if users.gates is not None or items.gates is not None:
        tables.append(gate_table(users, items, train=train))
    if categories is not None and items.spaces:
        n_items = config.item_sample_size
        tables.append(
            cohesion_table(
                items.spaces, categories, k=config.neighbor_k, sample_size=n_items, rng=rng
            )
        )
    samples = {"n_users": config.user_sample_size, "n_items": config.item_sample_size}
    tables.append(alignment_table(users, items, train=train, **samples, rng=rng))
    return tuple(tables)


def norm_table(users: Embeddings, items: Embeddings) -> Table:
    """Mean, spread and quantiles of the Euclidean norms in each space."""
    records = []
    for side, kind, space in _spaces(users, items):
        norms = _norms(space)
        quantiles = np.quantile(norms, QUANTILES)
        records.append(
            {"side": side, "vector": kind, "n": len(norms)}
            | {"mean": norms.mean(), "std": norms.std(), "min": norms.min()}
            | {f"p{q * 100:.0f}": value for q, value in zip(QUANTILES, quantiles, strict=True)}
            | {"max": norms.max()}
        )
    return Table.from_records(
        "embedding_norms",
        "Norms of the vectors",
        "Euclidean length of each vector; p5 to p95 are percentiles. 'tower' is the tower's output "
        "(with cosine similarity, scores know its direction alone), 'id' the id embedding (rows "
        "seen in training), 'metadata' the encoded features.",
        records,
    )


def norm_histogram(users: Embeddings, items: Embeddings) -> Table:
    """Counts of norms in equal bins; users and items share the bins of a kind of vector."""
    norms: dict[str, dict[str, FloatArray]] = {}
    for side, kind, space in _spaces(users, items):
        norms.setdefault(kind, {})[side] = _norms(space)
    records = []
    for kind, sides in norms.items():
        varied = [values for values in sides.values() if not _is_constant(values)]
        shared = _bin_edges(np.concatenate(varied), HISTOGRAM_BINS) if varied else None
        for side, values in sides.items():
            edges = _bin_edges(values, 1) if shared is None or _is_constant(values) else shared
            counts, _ = np.histogram(values, edges)
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
                records.append(
                    {"side": side, "vector": kind, "from": low, "to": high}
                    | {"count": count, "share": count / len(values)}
                )
    return Table.from_records(
        "embedding_norm_histogram",
        "Histogram of norms",
        "How many vectors have a length in each bin, and their share of that side. Each bin holds "
        "its lower end, the last its upper end too. Lengths that are all the same have one bin.",
        records,
    )


def dimension_table(users: Embeddings, items: Embeddings) -> Table:
    """How many dimensions each space really uses."""
    records = []
    for side, kind, space in _spaces(users, items):
        std = _spread(space)
        shares = _spectrum(space)
        seen = shares[shares > 0]
        records.append(
            {"side": side, "vector": kind, "dimensions": space.shape[1]}
            | {"dead": int(_dead(std).sum())}
            | {"effective_rank": float(np.exp(-(seen * np.log(seen)).sum())) if len(seen) else 0.0}
            | {"participation_ratio": 1 / float((shares**2).sum()) if len(seen) else 0.0}
            | {"largest_share": shares[0]}
            | {"for_90_percent": int(np.searchsorted(shares.cumsum(), 0.9) + 1) if len(seen) else 0}
        )
    return Table.from_records(
        "embedding_dimensions",
        "Dimensions in use",
        "From the eigenvalues of the covariance, as shares of the variance: effective_rank is the "
        "exponential of their entropy (Roy and Vetterli, 2007), participation_ratio 1 / sum of "
        "squared shares; both are D where all directions carry the same and 1 where one carries "
        "all. largest_share is the first direction's, for_90_percent how many directions carry "
        "90%. dead: dimensions whose standard deviation is below "
        f"{DEAD_FRACTION * 100:g}% of the root mean square over dimensions.",
        records,
    )


def dimension_spread(users: Embeddings, items: Embeddings) -> Table:
    """Standard deviation of every dimension of every space."""
    records = []
    for side, kind, space in _spaces(users, items):
        std = _spread(space)
        total = float((std**2).sum())
        for dimension, (value, dead) in enumerate(zip(std, _dead(std), strict=True)):
            share = float(value) ** 2 / total if total else None
            records.append(
                {"side": side, "vector": kind, "dimension": dimension, "std": value}
                | {"share_of_variance": share, "dead": "yes" if dead else "no"}
            )
    return Table.from_records(
        "dimension_spread",
        "Spread of each dimension",
        "Standard deviation over rows, and the share of the space's variance. dead: standard "
        f"deviation below {DEAD_FRACTION * 100:g}% of the root mean square over dimensions.",
        records,
    )


def gate_table(users: Embeddings, items: Embeddings, *, train: Interactions) -> Table:
    """Mean gate of users and items by how many train interactions they have."""
    records = []
    for side, tower, counts in (
        ("item", items, train.item_counts),
        ("user", users, train.user_counts),
    ):
        if tower.gates is None:
            continue
        means = tower.gates.mean(axis=1, dtype=np.float64)  # (n, D) -> (n,)
        for label, held in ranges_of(counts, GATE_EDGES):
            low, high = np.quantile(means[held], (0.1, 0.9))
            records.append(
                {"side": side, "train_interactions": label, "n": int(held.sum())}
                | {"mean_gate": means[held].mean(), "p10": low, "p90": high}
                | {"leaning_on_id": float((tower.gates[held] > 0.5).mean())}
            )
    return Table.from_records(
        "gates_by_popularity",
        "Gate by number of train interactions",
        "Gate 1: the id embedding alone; 0: the metadata alone. mean_gate, p10 and p90 are over "
        "rows, each row's gate being its mean over dimensions; leaning_on_id is the share of "
        "single gates above 0.5.",
        records,
    )


def alignment_table(
    users: Embeddings,
    items: Embeddings,
    *,
    train: Interactions,
    n_users: int,
    n_items: int,
    rng: np.random.Generator,
) -> Table:
    """Cosines of vectors that belong together, against shuffled pairs.

    Args:
        users: vectors of every user.
        items: vectors of every item.
        train: users without train items have no mean to compare with and are left out.
        n_users: at most so many users are compared.
        n_items: at most so many items.
        rng: draws them, and the shuffled pairs.
    """
    records = []
    drawn = sample(np.flatnonzero(train.user_counts), n_users, rng)
    if len(drawn) > 1:
        histories = train.by_user.take(drawn).to_scipy()
        means = histories @ items.vectors / train.user_counts[drawn, None]  # (U, D)
        records.append(_compare("user and mean of train items", users.vectors[drawn], means, rng))
    for name, tower, size in (
        ("user: id and metadata", users, n_users),
        ("item: id and metadata", items, n_items),
    ):
        if tower.ids is None or tower.metadata is None or len(tower.ids) < 2:
            continue
        rows = sample(np.arange(len(tower.ids)), size, rng)
        records.append(_compare(name, tower.ids[rows], tower.metadata[rows], rng))
    return Table.from_records(
        "alignment",
        "Alignment of vectors that belong together",
        "Mean cosine of each pair, and of the same vectors paired with those of another row. The "
        "first row compares tower vectors; the others, where a tower has both, id embeddings with "
        "metadata embeddings of rows seen in training. Intervals: 95%, over pairs.",
        records,
    )


def cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    """Cosine of each pair of rows, (n, D) and (n, D) to (n,); NaN where a row is all zero."""
    dots = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    result: FloatArray = np.divide(dots, lengths, out=np.full(len(dots), np.nan), where=lengths > 0)
    return result


def _spaces(users: Embeddings, items: Embeddings) -> list[tuple[str, str, FloatArray]]:
    sides = (("user", users), ("item", items))
    return [(side, kind, space) for side, tower in sides for kind, space in tower.spaces.items()]


def _norms(space: FloatArray) -> FloatArray:
    norms: FloatArray = np.sqrt(np.einsum("nd,nd->n", space, space, dtype=np.float64))
    return norms


def _is_constant(values: FloatArray) -> bool:
    """Whether values are one up to rounding, as the lengths of normalised vectors are."""
    return bool(np.ptp(values) <= 1e-5 * np.abs(values).max())


def _bin_edges(values: FloatArray, n_bins: int) -> FloatArray:
    return np.linspace(float(values.min()), float(values.max()), n_bins + 1)


def _spread(space: FloatArray) -> FloatArray:
    spread: FloatArray = space.std(axis=0, dtype=np.float64)
    return spread


def _dead(std: FloatArray) -> IntArray:
    return np.asarray(std <= DEAD_FRACTION * np.sqrt((std**2).mean()))


def _spectrum(space: FloatArray) -> FloatArray:
    """Eigenvalues of the covariance as shares of their sum, largest first; zeros if no variance."""
    mean = space.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((space.shape[1],) * 2)
    for start in range(0, len(space), 65536):
        block = space[start : start + 65536] - mean
        covariance += block.T @ block
    values = np.linalg.eigvalsh(covariance)[::-1].clip(min=0)
    scale = float(np.square(space, dtype=np.float64).sum())
    if values.sum() <= 1e-12 * scale or scale == 0:  # rows equal up to rounding
        return np.zeros(len(values))
    shares: FloatArray = values / values.sum()
    return shares


def _compare(
    name: str, left: FloatArray, right: FloatArray, rng: np.random.Generator
) -> dict[str, str | float | int]:
    together = mean_interval(cosines(left, right))
    order = rng.permutation(len(left))
    apart = mean_interval(cosines(left[order], right[np.roll(order, 1)]))  # no row keeps its own
    record: dict[str, str | float | int] = {"pair": name, "n": together.n}
    record |= {"cosine": together.mean, "low": together.low, "high": together.high}
    record |= {"shuffled": apart.mean, "shuffled_low": apart.low, "shuffled_high": apart.high}
    return record | {"difference": together.mean - apart.mean}
