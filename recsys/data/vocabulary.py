"""Raw ids and their indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import IntArray


class Vocabulary:
    """Distinct raw ids; the index of an id is its position.

    Args:
        ids: strings without nulls or repetitions, (n,); kept as they are, memory-mapped or not.
    """

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, ids: Sequence[str] | pa.Array) -> IntArray:
        """Index of each id, white space around it aside, (m,) int64; -1 where it is unknown."""
        asked = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
        found = pc.index_in(pc.utf8_trim_whitespace(asked), value_set=self.ids)
        found = pc.fill_null(found, -1)
        indices: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return indices

    def id_of(self, indices: IntArray) -> list[str]:
        """Raw id of each index; an index outside 0..n-1 raises."""
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"indices must be in 0..{len(self) - 1}, got {chosen.tolist()[:10]}")
        raw: list[str] = self.ids.take(pa.array(chosen)).to_pylist()
        return raw
