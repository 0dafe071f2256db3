"""What is known of books and readers beside their ids, as numbers.

Statistics are fitted on train books only. Dense columns are standardised; multi-valued text fields
stay bags of column indices, however many columns there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys.config import FeatureParams
from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions
from recsys.data.columns import MAX_NUMBER, SEPARATORS, TITLE
from recsys.data.list_cells import lists_as_text
from recsys.data.text_fields import TEXT_BAGS, TextField, field_values, source_column
from recsys.data.value_bags import BagColumns, ValueLists
from recsys.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

V = TypeVar("V")
SECONDS_A_DAY = 86_400
BLOCK_ENTRIES = 1 << 22
NEGLIGIBLE = 1e-6
"""Deviations below this share of the largest value are rounding."""
USER_BAGS: tuple[TextField, ...] = ("categories", "authors")
"""The bags of items that users have an aggregate of; the others cost more than they say."""


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of n items or users.

    Attributes:
        dense: standardised numbers, (n, Fd) float32.
        dense_names: what each dense column is, (Fd,).
        bags: of items by text field, of users "categories" and "authors", n rows each; a field
            without columns is absent.
        bag_labels: what each column of each bag stands for.
    """

    dense: FloatArray
    dense_names: tuple[str, ...]
    bags: dict[str, Bags]
    bag_labels: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.dense)


@dataclass(frozen=True)
class Scale:
    """How one numeric column becomes a z-score.

    Attributes:
        name: of the column.
        log: whether log(1 + x) is taken first (of 0 where x is negative).
        mean: over train values, after the logarithm.
        deviation: standard deviation over train values (divisor n), after the logarithm.
        flags_missing: whether a column "<name>_missing" of 0 and 1 follows.
    """

    name: str
    log: bool
    mean: float
    deviation: float
    flags_missing: bool

    @classmethod
    def fit(cls, name: str, train: FloatArray, log_skewness: float | None) -> Self | None:
        """The scale of a column whose train values are given, missing ones as NaN.

        None, and a line in the log, where the column says nothing: no value, or only one.
        """
        missing = np.isnan(train)
        values = train[~missing]
        if not len(values):
            logger.warning("feature '%s' is empty for every train book and is left out", name)
            return None
        log = log_skewness is not None and values.min() >= 0 and skewness(values) > log_skewness
        if log:
            values = np.log1p(values)
        flags_missing = bool(missing.any())
        constant = values.min() == values.max()
        if constant and not flags_missing:
            logger.warning("feature '%s' is the same for every train book and is left out", name)
            return None
        deviation = 1.0 if constant else float(values.std())
        return cls(name, bool(log), float(values.mean()), deviation, flags_missing)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns it makes."""
        return (self.name, f"{self.name}_missing") if self.flags_missing else (self.name,)

    def apply(self, values: FloatArray, out: FloatArray) -> None:
        """Write z-scores, 0 where missing, into ``out`` (n, 1 or 2), and the flag beside them."""
        if self.log:
            values = np.log1p(np.maximum(values, 0))  # NaN stays NaN
        scores = (values - self.mean) / self.deviation
        missing = np.isnan(scores)
        out[:, 0] = np.where(missing, 0, scores)
        if self.flags_missing:
            out[:, 1] = missing


def skewness(values: FloatArray) -> float:
    """Third central moment over the cubed standard deviation (population form); 0 if constant."""
    centred = values - values.mean()
    deviation = float(np.sqrt(np.mean(centred**2)))
    return float(np.mean((centred / deviation) ** 3)) if deviation > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _RawFeatures:
    """Numbers (NaN where missing) and values of books, before anything is fitted."""

    n_rows: int
    numbers: dict[str, FloatArray]
    lists: dict[str, ValueLists]

    def head(self, n_rows: int) -> _RawFeatures:
        numbers = {name: values[:n_rows] for name, values in self.numbers.items()}
        lists = {name: _head(lists, n_rows) for name, lists in self.lists.items()}
        return _RawFeatures(n_rows, numbers, lists)


def _head(lists: ValueLists, n_rows: int) -> ValueLists:
    offsets = lists.bags.offsets[: n_rows + 1]
    indices = lists.bags.indices[: offsets[-1]]
    return ValueLists(lists.values, Bags(offsets, indices, lists.bags.n_columns))


@dataclass(frozen=True)
class ItemFeaturizer:
    """From a books table to features, with everything learned from the train books.

    Attributes:
        scales: of the numeric columns and title statistics that say something.
        bag_columns: of each text field; a field without columns is absent.
    """

    scales: tuple[Scale, ...]
    bag_columns: dict[str, BagColumns]

    @classmethod
    def fit(cls, train_books: pa.Table, config: FeatureParams) -> ItemFeaturizer:
        """Fitted on the train books alone."""
        return _fit(_wanted_features(train_books, config), config)

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns, in order."""
        return tuple(name for scale in self.scales for name in scale.names)

    def transform(self, books: pa.Table) -> Features:
        """Features of any books.

        Columns that the table lacks count as missing (numeric) or empty (text), so that a book of
        which little is known can be given as it is.
        """
        names = [scale.name for scale in self.scales]
        numeric = [name for name in names if name not in TITLE_STATISTICS]
        with_title = len(numeric) < len(names)
        return self._transform(_raw_features(books, numeric, with_title, list(self.bag_columns)))

    def _transform(self, raw: _RawFeatures) -> Features:
        dense = np.zeros((raw.n_rows, len(self.dense_names)), dtype=np.float32)
        start = 0
        for scale in self.scales:
            end = start + len(scale.names)
            scale.apply(raw.numbers[scale.name], dense[:, start:end])
            start = end
        bags = {name: columns.bags(raw.lists[name]) for name, columns in self.bag_columns.items()}
        labels = {name: columns.labels for name, columns in self.bag_columns.items()}
        return Features(dense, self.dense_names, bags, labels)

    def to_json(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return {
            "scales": [asdict(scale) for scale in self.scales],
            "bag_columns": {name: c.to_json() for name, c in self.bag_columns.items()},
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> ItemFeaturizer:
        """The featurizer that :meth:`to_json` wrote."""
        return cls(
            tuple(Scale(**scale) for scale in saved["scales"]),
            {name: BagColumns.from_json(c) for name, c in saved["bag_columns"].items()},
        )


def featurize_items(
    books: pa.Table, n_train: int, config: FeatureParams
) -> tuple[ItemFeaturizer, Features]:
    """A featurizer fitted on the first ``n_train`` books, and the features of all of them.

    The same as ``fit`` on those and ``transform`` of all, with each text looked at once.
    """
    raw = _wanted_features(books, config)
    featurizer = _fit(raw.head(n_train), config)
    return featurizer, featurizer._transform(raw)


def _fit(train: _RawFeatures, config: FeatureParams) -> ItemFeaturizer:
    fitted = (Scale.fit(n, values, config.log_skewness) for n, values in train.numbers.items())
    scales = tuple(scale for scale in fitted if scale is not None)
    bag_columns = {}
    for name, lists in train.lists.items():
        size = config.top_k[name]
        columns = BagColumns.fit(
            lists, config.bag_kind, size, min_count=config.min_count, idf=config.idf
        )
        if columns.size:
            bag_columns[name] = columns
        else:
            level = logging.WARNING if name in USER_BAGS else logging.INFO  # titles name no series
            logger.log(level, "field '%s' says nothing of train books and is left out", name)
    return ItemFeaturizer(scales, bag_columns)


def _wanted_features(books: pa.Table, config: FeatureParams) -> _RawFeatures:
    """What the settings ask for and the table has."""
    numeric = [name for name in config.numeric_columns if name in books.column_names]
    fields = [name for name in TEXT_BAGS if config.top_k[name]]
    return _raw_features(books, numeric, config.title, fields)


def _raw_features(
    books: pa.Table, numeric_columns: Sequence[str], title: bool, fields: Sequence[str]
) -> _RawFeatures:
    numbers = {name: _numbers(books, name) for name in numeric_columns}
    if title:
        numbers |= title_statistics(_texts(books, TITLE))
    lists: dict[str, ValueLists] = {
        name: field_values(name, _texts(books, source_column(name)))
        for name in TEXT_BAGS
        if name in fields
    }
    return _RawFeatures(len(books), numbers, lists)


def _numbers(books: pa.Table, name: str) -> FloatArray:
    if name not in books.column_names:
        return np.full(len(books), np.nan)
    numbers: FloatArray = books[name].cast(pa.float64()).to_numpy()
    absurd = numbers[np.abs(numbers) > MAX_NUMBER]
    if len(absurd):
        raise DataError(
            f"'{name}' of a book must be between {-MAX_NUMBER:g} and {MAX_NUMBER:g}, got "
            f"{absurd[0]:g}"
        )
    return numbers


def _texts(books: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in books.column_names:
        return pa.chunked_array([pa.array([""] * len(books), pa.string())])
    texts = pc.fill_null(books[name].cast(pa.string()), "")
    return lists_as_text(texts, SEPARATORS[name]) if name in SEPARATORS else texts


TITLE_STATISTICS = (
    "title_words",
    "title_characters",
    "title_word_length",
    "title_digit_share",
    "title_capital_share",
)


def title_statistics(titles: pa.ChunkedArray) -> dict[str, FloatArray]:
    """Words, characters, mean word length, share of digits, share of capitals of each title.

    Words are parted by white space; word length and shares count characters other than white
    space. A title without any is missing (NaN) throughout.
    """
    characters = pc.utf8_length(titles).to_numpy().astype(np.float64)
    words = _count(titles, r"\S+")
    visible = characters - _count(titles, r"\s")
    digits = _count(titles, r"\pN")
    capitals = _count(titles, r"\p{Lu}")
    empty = visible == 0
    visible[empty] = np.nan
    statistics = (
        np.where(empty, np.nan, words),
        np.where(empty, np.nan, characters),
        visible / np.maximum(words, 1),
        digits / visible,
        capitals / visible,
    )
    return dict(zip(TITLE_STATISTICS, statistics, strict=True))


def _count(texts: pa.ChunkedArray, pattern: str) -> FloatArray:
    counts: FloatArray = pc.count_substring_regex(texts, pattern).to_numpy().astype(np.float64)
    return counts


# Users -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Histories:
    """Each user's items with their weights, users in order."""

    offsets: IntArray  # (U + 1,)
    items: IntArray  # (N,)
    weights: FloatArray  # (N,) float32

    @property
    def counts(self) -> IntArray:
        """Items of each user, (U,)."""
        return np.diff(self.offsets)

    def matrix(self, start: int, end: int, n_items: int) -> sparse.csr_matrix:
        """(end - start, n_items): the weights of the users from ``start`` to ``end``."""
        offsets = self.offsets[start : end + 1]
        first, last = offsets[0], offsets[-1]
        parts = (self.weights[first:last], self.items[first:last], offsets - first)
        return sparse.csr_matrix(parts, shape=(end - start, n_items))


@dataclass(frozen=True, eq=False)
class UserFeaturizer:
    """From the items of a user to features of the user, with everything learned from train.

    mean, sum and max are over a user's items. time_decayed_mean weighs an item by
    ``0.5 ** (days before the user's latest interaction / half_life_days)``. The first dense column
    is log(1 + number of items). All dense columns are standardised over the users with train
    interactions; the bags carry the aggregate itself as weights (for max of entries that all weigh
    1: none). A user without items has 0 in the other dense columns, their mean, and empty bags.

    Attributes:
        config: which aggregate.
        means: of each dense column over the users with train interactions, (1 + Fd,) float64.
        deviations: the same; 0 for a column that says nothing, which stays 0.
    """

    config: FeatureParams
    means: FloatArray
    deviations: FloatArray

    @classmethod
    def fit(cls, item_features: Features, train: Interactions, config: FeatureParams) -> Self:
        """Fitted on the train interactions.

        Args:
            item_features: of all items; of none where no user is to be made features of.
            train: sorted or not.
            config: which aggregate.

        Raises:
            ConfigError: time_decayed_mean where the train interactions have no times.
        """
        if not len(item_features):
            nothing = np.zeros(1 + len(item_features.dense_names))
            return cls(config, nothing, nothing)
        histories = _histories(train, config)
        dense = _aggregate_dense(histories, item_features, config)
        return cls._fit(dense, histories.counts, config)

    @classmethod
    def _fit(cls, dense: FloatArray, counts: IntArray, config: FeatureParams) -> Self:
        active = counts > 0
        means, deviations = np.zeros(dense.shape[1]), np.zeros(dense.shape[1])
        for number in range(dense.shape[1] if active.any() else 0):
            values = dense[active, number].astype(np.float64)
            means[number] = values.mean()
            deviation = values.std()
            if deviation > NEGLIGIBLE * max(1.0, float(np.abs(values).max())):
                deviations[number] = deviation
        return cls(config, means, deviations)

    def transform(self, item_features: Features, items: Bags) -> Features:
        """Features of users who have the given items, in no order of time.

        With time_decayed_mean every item counts the same, as if all were of one day.

        Args:
            item_features: of all items.
            items: of each user, each once, (n, I).
        """
        weights = _even_weights(items.lengths, self.config)
        histories = _Histories(items.offsets, items.indices, weights)
        dense = _aggregate_dense(histories, item_features, self.config)
        return self._finish(histories, dense, item_features)

    def _finish(
        self, histories: _Histories, dense: FloatArray, item_features: Features
    ) -> Features:
        """Standardise ``dense`` in place, and add the bags."""
        self._standardise(dense, histories.counts)
        aggregate = self.config.user_aggregation
        bags = {
            name: _aggregate_bags(histories, bag, is_max=aggregate == "max")
            for name, bag in user_side(item_features.bags).items()
        }
        names = ("log_train_interactions", *(f"{aggregate}_{n}" for n in item_features.dense_names))
        return Features(dense, names, bags, user_side(item_features.bag_labels))

    def _standardise(self, dense: FloatArray, counts: IntArray) -> None:
        """In place. Rows without a count become 0 in all columns but the first, which is theirs."""
        for number, (mean, deviation) in enumerate(zip(self.means, self.deviations, strict=True)):
            dense[:, number] -= mean
            if deviation > 0:
                dense[:, number] /= deviation
            else:
                dense[:, number] = 0
        dense[counts == 0, 1:] = 0

    def to_json(self) -> dict[str, Any]:
        """A form that JSON can hold; the numbers come back bit for bit."""
        return {
            "user_aggregation": self.config.user_aggregation,
            "half_life_days": self.config.half_life_days,
            "means": self.means.tolist(),
            "deviations": self.deviations.tolist(),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The featurizer that :meth:`to_json` wrote."""
        config = FeatureParams(
            user_aggregation=saved["user_aggregation"], half_life_days=saved["half_life_days"]
        )
        numbers = (np.array(saved[name], dtype=np.float64) for name in ("means", "deviations"))
        return cls(config, *numbers)


def user_side(by_bag: Mapping[str, V]) -> dict[str, V]:
    """Of what items have by the name of a bag, that of the bags which users have too."""
    return {name: by_bag[name] for name in USER_BAGS if name in by_bag}


def aggregate_user_features(
    item_features: Features, train: Interactions, config: FeatureParams
) -> Features:
    """Features of users: those of their train items, put together; see :class:`UserFeaturizer`.

    The same as ``fit``, with the times of the interactions.

    Args:
        item_features: of all items, (I, ...).
        train: sorted or not.
        config: which aggregate.

    Raises:
        ConfigError: time_decayed_mean where the train interactions have no times.
    """
    histories = _histories(train, config)
    dense = _aggregate_dense(histories, item_features, config)
    featurizer = UserFeaturizer._fit(dense, histories.counts, config)
    return featurizer._finish(histories, dense, item_features)


def _histories(train: Interactions, config: FeatureParams) -> _Histories:
    users, items, times = train.users, train.items, train.times
    if len(users) and np.any(users[1:] < users[:-1]):
        order = np.argsort(users, kind="stable")
        users, items = users[order], items[order]
        times = None if times is None else times[order]
    counts = np.bincount(users, minlength=train.n_users)
    offsets = np.zeros(train.n_users + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    if config.user_aggregation == "time_decayed_mean":
        return _Histories(offsets, items, _decayed(users, times, offsets, config))
    return _Histories(offsets, items, _even_weights(counts, config))


def _even_weights(counts: IntArray, config: FeatureParams) -> FloatArray:
    """Weights of items of which none is older than another: 1, or shares for the means."""
    if config.user_aggregation in ("sum", "max"):
        return np.ones(int(counts.sum()), dtype=np.float32)
    return np.repeat((1 / np.maximum(counts, 1)).astype(np.float32), counts)


def _decayed(
    users: IntArray, times: IntArray | None, offsets: IntArray, config: FeatureParams
) -> FloatArray:
    """Weights of a user's interactions, halved with every half-life, summing to 1."""
    if times is None or config.half_life_days is None:
        raise ConfigError(
            "'data.feature_params.user_aggregation: time_decayed_mean' needs interactions with "
            "timestamps"
        )
    n_users = len(offsets) - 1
    latest = np.full(n_users, np.iinfo(np.int64).min)
    active = np.flatnonzero(np.diff(offsets))
    if len(active):
        latest[active] = np.maximum.reduceat(times, offsets[active])
    age = (latest[users] - times) / (config.half_life_days * SECONDS_A_DAY)
    weights = np.exp2(-age)
    totals = np.bincount(users, weights, minlength=n_users)
    decayed: FloatArray = (weights / totals[users]).astype(np.float32)
    return decayed


def _blocks(costs: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose costs sum to about BLOCK_ENTRIES, or of a single row."""
    ends = np.cumsum(costs)
    start = 0
    while start < len(costs):
        spent = ends[start - 1] if start else 0
        end = int(np.searchsorted(ends, spent + BLOCK_ENTRIES, side="right"))
        end = max(end, start + 1)
        yield start, end
        start = end


def _aggregate_dense(
    histories: _Histories, features: Features, config: FeatureParams
) -> FloatArray:
    """Dense columns of users before they are standardised, (U, 1 + Fd) float32."""
    counts, n_dense = histories.counts, len(features.dense_names)
    dense = np.zeros((len(counts), n_dense + 1), dtype=np.float32)
    dense[:, 0] = np.log1p(counts)
    for start, end in _blocks(counts * max(n_dense, 1)):
        dense[start:end, 1:] = _aggregate_block(histories, start, end, features, config)
    return dense


def _aggregate_block(
    histories: _Histories, start: int, end: int, features: Features, config: FeatureParams
) -> FloatArray:
    if config.user_aggregation != "max":
        product: FloatArray = histories.matrix(start, end, len(features)) @ features.dense
        return product
    offsets = histories.offsets[start : end + 1]
    highest = np.zeros((end - start, features.dense.shape[1]), dtype=np.float32)
    active = np.flatnonzero(np.diff(offsets))
    if len(active):
        rows = features.dense[histories.items[offsets[0] : offsets[-1]]]
        highest[active] = np.maximum.reduceat(rows, offsets[active] - offsets[0])
    return highest


def _aggregate_bags(histories: _Histories, bags: Bags, *, is_max: bool) -> Bags:
    """The product of histories and bags, or the highest entries, a block of users at a time."""
    item_matrix = bags.to_scipy()
    counts = histories.counts
    unweighted = is_max and bags.weights is None
    indices, weights = _GrowingArray(np.int32), _GrowingArray(np.float32)
    lengths = np.zeros(len(counts), dtype=np.int64)
    mean_length = max(1, -(-len(bags.indices) // max(bags.n_rows, 1)))
    for start, end in _blocks(counts * mean_length):
        if is_max and not unweighted:
            product = _highest_entries(histories, start, end, bags)
        else:
            product = histories.matrix(start, end, bags.n_rows) @ item_matrix
        product.sort_indices()
        lengths[start:end] = np.diff(product.indptr)
        indices.extend(product.indices)
        if not unweighted:
            weights.extend(product.data)
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Bags(offsets, indices.array, bags.n_columns, None if unweighted else weights.array)


def _highest_entries(histories: _Histories, start: int, end: int, bags: Bags) -> sparse.csr_matrix:
    """The highest weight of each column among the items of each of the users, as a matrix."""
    offsets = histories.offsets[start : end + 1]
    chosen = bags.take(histories.items[offsets[0] : offsets[-1]])
    users = np.repeat(np.arange(end - start), np.diff(chosen.offsets[offsets - offsets[0]]))
    assert chosen.weights is not None
    keys = users * bags.n_columns + chosen.indices
    order = np.argsort(keys, kind="stable")
    cells, firsts = np.unique(keys[order], return_index=True)
    highest = np.maximum.reduceat(chosen.weights[order], firsts) if len(cells) else np.zeros(0)
    rows, columns = np.divmod(cells, bags.n_columns)
    shape = (end - start, bags.n_columns)
    return sparse.csr_matrix((highest.astype(np.float32), (rows, columns)), shape=shape)


class _GrowingArray:
    """An array that grows in place, so that the parts and the whole never exist side by side."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._array = np.zeros(0, dtype=dtype)

    def extend(self, part: np.ndarray) -> None:
        start = len(self._array)
        self._array.resize(start + len(part), refcheck=False)
        self._array[start:] = part

    @property
    def array(self) -> np.ndarray:
        return self._array
