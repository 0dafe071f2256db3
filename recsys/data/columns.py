"""Names of the columns, what each must hold, and which of a file's columns they are."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from recsys.config import DataConfig, InteractionField
from recsys.errors import ConfigError, DataError, cut, shown

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
TITLE: Final = "title"
AUTHOR: Final = "author"
CATEGORIES: Final = "categories"
TEXT_FIELDS = (TITLE, AUTHOR, CATEGORIES)

NUMERIC_SETTING = "data.feature_params.numeric_columns"
CATEGORY_SEPARATOR = "|"
AUTHOR_SEPARATOR = ","
SEPARATORS = {AUTHOR: AUTHOR_SEPARATOR, CATEGORIES: CATEGORY_SEPARATOR}
"""Of the values in a cell, in the columns whose cells may hold several."""

# What stands for a missing number in a CSV file.
MISSING_NUMBERS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)

MAX_NUMBER = 1e15
"""Numbers larger in size are no plausible values, and their squares leave the range of float32."""

ColumnKind = Literal["id", "text", "rating", "time", "number"]

_ARROW_TYPES: dict[ColumnKind, pa.DataType] = {
    "id": pa.string(),
    "text": pa.string(),
    "rating": pa.float32(),
    "time": pa.int64(),
    "number": pa.float64(),
}
_RANGE = f"must be a number between {-MAX_NUMBER:g} and {MAX_NUMBER:g}"
_REQUIREMENTS: dict[ColumnKind, str] = {
    "id": "must not be empty",
    "text": "must be text",
    "rating": _RANGE,
    "time": "must be seconds or milliseconds since 1970",
    "number": f"{_RANGE}, or empty",
}


@dataclass(frozen=True)
class Column:
    """One column that is read.

    Attributes:
        name: our name for it.
        source: the file's name for it.
        kind: id (never empty), text (may be empty), rating (a number), time (seconds or
            milliseconds since 1970) or number (or missing); numbers up to ``MAX_NUMBER`` in size.
        required: whether a file without it cannot be read.
        setting: where the file's name for it is set, or the column left out; "" for nowhere.
    """

    name: str
    source: str
    kind: ColumnKind
    required: bool
    setting: str

    @property
    def arrow_type(self) -> pa.DataType:
        """The type in which a column of a CSV file is held."""
        return _ARROW_TYPES[self.kind]

    @property
    def requirement(self) -> str:
        """What a value must be, in words."""
        return _REQUIREMENTS[self.kind]

    @property
    def fault(self) -> str:
        """The reason under which rows with a bad value are counted."""
        return f"bad '{self.source}'"

    def parse(self, text: str) -> str | float | int | None:
        """The value of a CSV field; None where a number is missing.

        Raises:
            ValueError: it is none.
        """
        if self.kind in ("id", "text"):
            return text
        text = text.strip()
        if text in MISSING_NUMBERS:
            return None
        if not NUMBER.fullmatch(text):  # float() also takes 1_000
            raise ValueError(text)
        number = float(text)
        if self.kind != "time":
            return number
        if not math.isfinite(number) or abs(number) >= 2**62:
            raise ValueError(text)
        return int(number)


def book_columns(config: DataConfig) -> tuple[Column, ...]:
    """The columns of the books file that the settings ask for; texts may be absent."""
    features = config.feature_params
    clash = sorted({ITEM_ID, *TEXT_FIELDS} & set(features.numeric_columns))
    if clash:
        raise ConfigError(f"'{NUMERIC_SETTING}' must name numeric columns, got '{clash[0]}'")
    mapped: dict[str, str] = {str(field): name for field, name in config.book_columns.items()}
    columns = []
    for name in (ITEM_ID, *TEXT_FIELDS):
        kind: ColumnKind = "id" if name == ITEM_ID else "text"
        required = name == ITEM_ID or name in mapped
        columns.append(Column(name, mapped.get(name, name), kind, required, "data.book_columns"))
    for number in features.numeric_columns:
        required = features.needs_numeric_columns or number in mapped
        source = mapped.get(number, number)
        columns.append(Column(number, source, "number", required, NUMERIC_SETTING))
    return tuple(columns)


def interaction_columns(config: DataConfig) -> tuple[Column, ...]:
    """The columns of the interactions file that the settings ask for.

    A rating may be empty unless ``min_rating`` needs it; the timestamp is read only where it is the
    order.
    """
    needs_rating = config.min_rating is not None
    wanted: list[tuple[InteractionField, ColumnKind, bool]] = [
        (USER_ID, "id", True),
        (ITEM_ID, "id", True),
        (RATING, "rating" if needs_rating else "number", needs_rating),
    ]
    if config.split.order == "timestamp":
        decays = config.feature_params.user_aggregation == "time_decayed_mean"
        wanted.append((TIMESTAMP, "time", decays))
    mapped, setting = config.interaction_columns, "data.interaction_columns"
    return tuple(
        Column(name, mapped.get(name, name), kind, required or name in mapped, setting)
        for name, kind, required in wanted
    )


def present_columns(
    columns: Sequence[Column], header: Sequence[str], path: Path
) -> tuple[Column, ...]:
    """Those of ``columns`` that the file has.

    Raises:
        DataError: a required column is missing, or the file names a needed column twice.
    """
    by_name = {name.strip(): name for name in reversed(header)}
    columns = [
        replace(column, source=by_name.get(column.source, column.source)) for column in columns
    ]
    missing = [column for column in columns if column.required and column.source not in header]
    if missing:
        raise DataError(_missing_message(columns, missing[0], header, path))
    present = tuple(column for column in columns if column.source in header)
    for column in present:
        if list(header).count(column.source) > 1:
            raise DataError(f"{path}: column '{column.source}' must be there once, is there twice")
    return present


def listed(header: Sequence[str]) -> str:
    """The names of a file's columns, as many as fit in a message."""
    return ", ".join(map(cut, header[:20])) + (", ..." if len(header) > 20 else "")


def _missing_message(
    columns: Sequence[Column], missing: Column, header: Sequence[str], path: Path
) -> str:
    needed = ", ".join(column.source for column in columns if column.required)
    by_lower = {name.lower(): name for name in reversed(header)}
    close = get_close_matches(missing.source.lower(), by_lower, n=1)
    closest = f" (closest: {shown(by_lower[close[0]])})" if close else ""
    example = cut(by_lower[close[0]]) if close else "its_name_in_the_file"
    how = f"set '{missing.setting}: {{{missing.name}: {example}}}'"
    if missing.kind == "number":
        how = f"name it in 'data.book_columns' or leave it out of '{missing.setting}'"
    if not missing.setting:
        how = f"call it '{missing.source}'"
    return (
        f"{path}: column '{missing.source}' is missing{closest}; needed: {needed}; "
        f"the file has: {listed(header)}; if it is there under another name, {how}"
    )
