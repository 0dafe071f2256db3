"""Cells of authors and categories that hold a list: of Parquet, Python or JSON."""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import shown

logger = logging.getLogger(__name__)

_BRACKETED = r"^\s*(\[.*\]|\{.*\}|\(.*\))\s*$"
# "['a' 'b']", as numpy prints it: Python would read one text, "ab".
_WITHOUT_COMMA = re.compile(r"""(['"])\s+(['"])""")
_SEPARATORS = ("|", ";", ",")
_MOST_SHARE = 0.1
"""At this share of the cells, what looks like another notation is warned about."""
_EXAMPLES = 3


def join_list(values: Sequence[object], separator: str) -> str:
    """The values as a cell's text; a separator within a value becomes "/", a comma nothing."""
    instead = " " if separator == "," else "/"
    texts = (str(value).replace(separator, instead) for value in values if value is not None)
    return separator.join(" ".join(text.split()) for text in texts)


def join_lists(cells: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """The same for a Parquet column of lists of strings, (n,); "" where a list is missing."""
    texts = [join_list(cell or (), separator) for cell in cells.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def lists_as_text(cells: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """The cells with each text that is a Python or JSON list of texts as ``join_list`` writes it.

    Args:
        cells: (n,) strings.
        separator: of the values within a cell.
    """
    listed = pc.match_substring_regex(cells, r"^\s*\[")
    if not pc.any(listed).as_py():
        return cells
    encoded = cells.dictionary_encode().combine_chunks()
    texts = []
    for text in encoded.dictionary.to_pylist():
        values = _list_in(text)
        texts.append(text if values is None else join_list(values, separator))
    return pa.chunked_array([pa.array(texts, pa.string()).take(encoded.indices)])


def _list_in(text: str) -> list[str | None] | None:
    """The list that a cell holds; None where it is none, or not of texts."""
    text = text.strip()
    if not text.startswith("[") or _WITHOUT_COMMA.search(text):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):  # Python's, of "\\d" and the like
                values = read(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(values, list) and all(isinstance(v, str | None) for v in values):
            return values
    return None


def warn_of_other_notations(
    cells: pa.ChunkedArray, separator: str, *, path: Path, column: str
) -> None:
    """Say so where many cells of a column look like lists that are written in another way."""
    own, *others = sorted(_SEPARATORS, key=lambda mark: mark != separator)
    other = pc.match_substring_regex(cells, f"[{''.join(others)}]")
    other = pc.and_not(other, pc.match_substring(cells, own))
    strange = pc.or_(pc.match_substring_regex(cells, _BRACKETED), other)
    n_cells = pc.sum(pc.not_equal(cells, "")).as_py() or 0
    n_own = pc.sum(pc.match_substring(cells, own)).as_py() or 0
    n_strange = pc.sum(strange).as_py() or 0
    if n_strange < max(_MOST_SHARE * n_cells, n_own, 1):
        return
    counts = cells.filter(strange).value_counts().to_pylist()
    counts = sorted(counts, key=lambda cell: (-cell["counts"], cell["values"]))[:_EXAMPLES]
    examples = ", ".join(f"{shown(cell['values'])} ({cell['counts']})" for cell in counts)
    logger.warning(
        "%s: %d of %d cells of column '%s' look like several values, which must be parted by '%s' "
        "or be a Python or JSON list; each is taken as it stands, most often %s",
        path,
        n_strange,
        n_cells,
        column,
        separator,
        examples,
    )
