"""What is known of items beside their ids, as numbers.

Statistics are fitted on train items only. Dense columns are standardised; multi-valued text fields
stay bags of column indices, however many columns there are.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, FiniteFloat

from recsys.config import FeatureParams
from recsys.data.arrays import Bags, FloatArray
from recsys.data.columns import MAX_NUMBER, SEPARATORS, TITLE
from recsys.data.list_cells import lists_as_text
from recsys.data.text_fields import SOURCE_COLUMNS, TEXT_BAGS, TextField, field_values
from recsys.data.value_bags import BagColumns, ValueLists
from recsys.errors import DataError

logger = logging.getLogger(__name__)

FEW_VALUES = 20
"""Of fewer values, one may well make up most of the variance."""
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

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What is to be kept of it beside the names: ``dense``, and the parts of the bags."""
        arrays: dict[str, np.ndarray] = {"dense": self.dense}
        for name, bags in self.bags.items():
            arrays |= {f"{name}_offsets": bags.offsets, f"{name}_indices": bags.indices}
            if bags.weights is not None:
                arrays[f"{name}_weights"] = bags.weights
        return arrays


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

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    log: bool
    mean: FiniteFloat
    deviation: Annotated[FiniteFloat, Field(gt=0)]
    flags_missing: bool

    @classmethod
    def fit(cls, name: str, train: FloatArray, log_skewness: float | None) -> Self | None:
        """The scale of a column whose train values are given, missing ones as NaN.

        None, and a line in the log, where the column says nothing: no value, or only one.
        """
        missing = np.isnan(train)
        values = train[~missing]
        if not len(values):
            logger.warning("feature '%s' is empty for every train item and is left out", name)
            return None
        log = log_skewness is not None and values.min() >= 0 and skewness(values) > log_skewness
        if log:
            values = np.log1p(values)
        flags_missing = bool(missing.any())
        constant = values.min() == values.max()
        if constant and not flags_missing:
            logger.warning("feature '%s' is the same for every train item and is left out", name)
            return None
        deviation = 1.0 if constant else float(values.std())
        distances = np.abs(values - values.mean()) / deviation
        if len(values) >= FEW_VALUES and distances.max() ** 2 > len(values) / 2:
            logger.warning(
                "feature '%s': one value, %.6g, makes up more than half of its variance, so that "
                "the others look nearly alike to the model",
                name,
                train[~missing][distances.argmax()],
            )
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


@dataclass(frozen=True)
class ItemFeaturizer:
    """From a books table to features, with everything learned from the train items.

    Attributes:
        scales: of the numeric columns and title statistics that say something.
        bag_columns: of each text field; a field without columns is absent.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    scales: tuple[Scale, ...]
    bag_columns: dict[TextField, BagColumns]

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns, in order."""
        return tuple(name for scale in self.scales for name in scale.names)

    @property
    def bag_labels(self) -> dict[str, tuple[str, ...]]:
        """What the columns of each bag stand for."""
        return {name: columns.names for name, columns in self.bag_columns.items()}

    def transform(self, books: pa.Table) -> Features:
        """Features of any items.

        Columns that the table lacks count as missing (numeric) or empty (text), so that an item of
        which little is known can be given as it is.
        """
        names = [scale.name for scale in self.scales]
        numeric = [name for name in names if name not in TITLE_STATISTICS]
        numbers = _numbers_of(books, numeric, with_title=len(numeric) < len(names))
        return self._transform(len(books), numbers, _lists_of(books, self.bag_columns))

    def _transform(
        self, n_rows: int, numbers: Mapping[str, FloatArray], lists: Mapping[TextField, ValueLists]
    ) -> Features:
        dense = np.zeros((n_rows, len(self.dense_names)), dtype=np.float32)
        start = 0
        for scale in self.scales:
            end = start + len(scale.names)
            scale.apply(numbers[scale.name], dense[:, start:end])
            start = end
        bags: dict[str, Bags] = {
            name: columns.bags(lists[name]) for name, columns in self.bag_columns.items()
        }
        return Features(dense, self.dense_names, bags, self.bag_labels)


def featurize_items(
    books: pa.Table, n_train: int, config: FeatureParams
) -> tuple[ItemFeaturizer, Features]:
    """A featurizer fitted on the first ``n_train`` items, and the features of all of them."""
    numeric = [name for name in config.numeric_columns if name in books.column_names]
    numbers = _numbers_of(books, numeric, with_title=config.title)
    lists = _lists_of(books, [name for name in TEXT_BAGS if config.top_k[name]])
    scales = (Scale.fit(n, values[:n_train], config.log_skewness) for n, values in numbers.items())
    bag_columns = {}
    for name, values in lists.items():
        columns = BagColumns.fit(
            values.head(n_train),
            config.bag_kind,
            config.top_k[name],
            min_count=config.min_count,
            idf=config.idf,
        )
        if columns.size:
            bag_columns[name] = columns
        else:
            level = logging.WARNING if name in USER_BAGS else logging.INFO  # titles name no series
            logger.log(level, "field '%s' says nothing of train items and is left out", name)
    featurizer = ItemFeaturizer(tuple(scale for scale in scales if scale is not None), bag_columns)
    return featurizer, featurizer._transform(len(books), numbers, lists)


def _numbers_of(
    books: pa.Table, columns: Iterable[str], *, with_title: bool
) -> dict[str, FloatArray]:
    """Numbers of items, NaN where missing."""
    numbers: dict[str, FloatArray] = {}
    for name in columns:
        if name not in books.column_names:
            numbers[name] = np.full(len(books), np.nan)
            continue
        numbers[name] = books[name].cast(pa.float64()).to_numpy()
        absurd = numbers[name][np.abs(numbers[name]) > MAX_NUMBER]
        if len(absurd):
            raise DataError(
                f"'{name}' of an item must be between {-MAX_NUMBER:g} and {MAX_NUMBER:g}, got "
                f"{absurd[0]:g}"
            )
    return numbers | (title_statistics(_texts(books, TITLE)) if with_title else {})


def _lists_of(books: pa.Table, fields: Container[str]) -> dict[TextField, ValueLists]:
    """Values of the text fields of items."""
    return {
        name: field_values(name, _texts(books, SOURCE_COLUMNS[name]))
        for name in TEXT_BAGS
        if name in fields
    }


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
