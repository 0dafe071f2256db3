"""Interactions as lines "user item item ...", the format of published splits (LightGCN)."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data.columns import ITEM_ID, USER_ID
from recsys.data.csv_source import open_binary
from recsys.errors import DataError


def read_item_lines(path: Path, limit: int | None) -> pa.Table:
    """(user_id, item_id) of every item of every line, in the order of the file, as strings.

    A line without items has no interaction.

    Args:
        path: .txt or .txt.gz, parted by white space.
        limit: read only the first so many interactions.

    Raises:
        DataError: the file cannot be unpacked or is no UTF-8 text.
    """
    lines = [line.split() for line in _text(path).splitlines()]
    items = [item for line in lines for item in line[1:]]
    lengths = [max(len(line) - 1, 0) for line in lines]
    users = pa.array([line[0] if line else "" for line in lines], pa.string())
    owners = np.repeat(np.arange(len(lines)), lengths)[:limit]
    return pa.table(
        {USER_ID: users.take(pa.array(owners)), ITEM_ID: pa.array(items[:limit], pa.string())}
    )


def _text(path: Path) -> str:
    try:
        with open_binary(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:  # a bad gzip file is an OSError
        raise DataError(f"{path}: must be readable ({error})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line}: must be UTF-8 text") from error
