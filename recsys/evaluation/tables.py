"""The table: the one form in which evaluation and diagnostics hand their findings on.

Report and tracker treat every table alike, so neither needs to know what was measured.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recsys.errors import ArtifactError

Cell = str | int | float | None
_FILE_SAFE = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Table:
    """Rows under named columns, with what it takes to understand them.

    Two tables are equal when all their parts are; a missing number is ``None``, never NaN, so that
    a table equals its own copy.

    An infinity counts as missing too. A table without rows is legal.

    Attributes:
        name: snake_case, safe as a file name.
        title: one line for a heading.
        note: how to read it: definitions, units, divisors.
        columns: one name a column, each once.
        rows: one tuple a row, as long as ``columns``.
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        """Check the shape and turn numpy scalars and NaN into plain values."""
        assert _FILE_SAFE.fullmatch(self.name), f"table name is not snake_case: {self.name!r}"
        assert len(set(self.columns)) == len(self.columns), f"repeated column in {self.columns}"
        rows = tuple(tuple(plain_cell(cell) for cell in row) for row in self.rows)
        assert all(len(row) == len(self.columns) for row in rows), f"ragged rows in {self.name!r}"
        object.__setattr__(self, "rows", rows)

    @classmethod
    def from_records(
        cls, name: str, title: str, note: str, records: Iterable[Mapping[str, Any]]
    ) -> Table:
        """A table of dictionaries: columns in order of first appearance, absent values None."""
        kept = list(records)
        columns = tuple(dict.fromkeys(column for record in kept for column in record))
        rows = tuple(tuple(record.get(column) for column in columns) for record in kept)
        return cls(name, title, note, columns, rows)

    def column(self, name: str) -> list[Cell]:
        """The values of one column, top to bottom."""
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def records(self) -> list[dict[str, Cell]]:
        """The rows as {column: cell}."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def select(self, columns: Iterable[str]) -> Table:
        """The same with these columns alone, in this order."""
        indices = [self.columns.index(name) for name in columns]
        rows = tuple(tuple(row[index] for index in indices) for row in self.rows)
        return dataclasses.replace(
            self, columns=tuple(self.columns[index] for index in indices), rows=rows
        )

    def without_gaps(self) -> Table:
        """The table less the columns that hold nothing."""
        held = zip(self.columns, zip(*self.rows, strict=True), strict=False)
        return self.select([name for name, cells in held if any(c is not None for c in cells)])

    def to_frame(self) -> pd.DataFrame:
        """The same as a data frame; a column of numbers with gaps becomes float with NaN."""
        return pd.DataFrame.from_records(list(self.rows), columns=list(self.columns))

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` can write: the ``columns``/``data`` orientation, gaps as null.

        The keys ``columns`` and ``data`` are those that table viewers page; the others name it.
        """
        return {
            "name": self.name,
            "title": self.title,
            "note": self.note,
            "columns": list(self.columns),
            "data": [list(row) for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Table:
        """The table that ``to_json`` gave.

        Raises:
            ArtifactError: a part is missing or the rows do not fit the columns.
        """
        missing = {"name", "title", "note", "columns", "data"} - set(value)
        if missing:
            raise ArtifactError(
                f"a table must have the keys {sorted(missing)}, got {sorted(value)}"
            )
        columns, rows = tuple(value["columns"]), tuple(tuple(row) for row in value["data"])
        wrong = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
        if wrong is not None:
            raise ArtifactError(
                f"table '{value['name']}': row {wrong} must have {len(columns)} values, "
                f"got {len(rows[wrong])}"
            )
        return cls(value["name"], value["title"], value["note"], columns, rows)


def plain_cell(value: object) -> Cell:
    """A cell as a plain Python value; NaN and infinities, which JSON has no word for, are None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a cell must be a string, a number or None, got {type(value).__name__}")
