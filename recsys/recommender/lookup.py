"""From raw ids to indices, again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import IntArray

CHUNK = 1 << 16


class Lookup:
    """Finds ids among many, without going through them all for every question.

    Holds a 64-bit hash and a position for each id: 16 bytes, where a dictionary of Python strings
    would take ten times as much. Ids whose hashes meet are told apart by the ids themselves.

    Args:
        ids: strings, each once, (n,).
    """

    def __init__(self, ids: pa.Array) -> None:
        self._ids = ids
        hashes = np.empty(len(ids), dtype=np.uint64)
        for start in range(0, len(ids), CHUNK):
            chunk = ids.slice(start, CHUNK)
            hashes[start : start + len(chunk)] = _hashes(chunk.to_pylist())
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def index_of(self, ids: Sequence[str]) -> IntArray:
        """Index of each id, white space around it aside, (m,) int64; -1 where it is unknown."""
        asked = [text.strip() for text in ids]
        found = np.full(len(asked), -1, dtype=np.int64)
        if not asked or not len(self._sorted):
            return found
        hashes = _hashes(asked)
        starts = np.searchsorted(self._sorted, hashes, side="left")
        ends = np.searchsorted(self._sorted, hashes, side="right")
        alone = np.flatnonzero(ends - starts == 1)
        candidates = self._order[starts[alone]]
        names = self._ids.take(pa.array(candidates))
        same = pc.equal(names, pa.array([asked[place] for place in alone], pa.string()))
        right = same.to_numpy(zero_copy_only=False)
        found[alone[right]] = candidates[right]
        for place in np.flatnonzero(ends - starts > 1):
            for candidate in self._order[starts[place] : ends[place]]:
                if self._ids[int(candidate)].as_py() == asked[place]:
                    found[place] = candidate
        return found


def _hashes(ids: Sequence[str]) -> np.ndarray:
    return pd.util.hash_array(np.array(ids, dtype=object), categorize=False)
