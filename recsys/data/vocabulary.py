"""Raw ids and their indices."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import IntArray
from recsys.errors import shown

CHUNK = 1 << 16
_NEARLY: dict[str, Callable[[pa.Array], pa.Array]] = {
    "in another case": pc.utf8_lower,
    "but for '.0' at the end": lambda ids: pc.replace_substring_regex(ids, r"\.0+$", ""),
    "but for zeros in front": lambda ids: pc.replace_substring_regex(ids, "^0+", ""),
    "but for hyphens": lambda ids: pc.replace_substring(ids, "-", ""),
}


def near_match(unknown: pa.Array, known: pa.Array) -> str:
    """What at least half of the unknown ids are known by, as ", ..." for a message; "" if nothing.

    Args:
        unknown: strings, (n,).
        known: strings, (m,).
    """
    for how, plain in _NEARLY.items():
        places = pc.index_in(plain(unknown), value_set=plain(known))
        n_found = len(places) - places.null_count
        if n_found and 2 * n_found >= len(unknown):
            one = pc.index(places.is_valid(), True).as_py()
            return (
                f", but {n_found} of these {len(unknown)} ids are known {how}: "
                f"{shown(unknown[one])} is {shown(known[places[one].as_py()])}"
            )
    return ""


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; not copied where it is one already, so that it stays mapped."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_hashes(texts: Iterable[str]) -> IntArray:
    """A number for each text, (n,) uint32.

    CRC-32 is the same in every process and on every machine; ``hash()`` is not.
    """
    return np.fromiter((zlib.crc32(text.encode()) for text in texts), np.uint32)


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

    def find(self, ids: Sequence[str]) -> IntArray:
        """The same for few ids, without going through all that are known for every question.

        The first call makes an index of 12 bytes for each known id, where a dictionary of Python
        strings would take ten times as much.
        """
        asked = [text.strip() for text in ids]
        found = np.full(len(asked), -1, dtype=np.int64)
        if not asked:
            return found
        hashes, order = self._by_hash
        wanted = text_hashes(asked)
        starts = np.searchsorted(hashes, wanted, side="left").tolist()
        ends = np.searchsorted(hashes, wanted, side="right").tolist()
        for place, text in enumerate(asked):
            for candidate in order[starts[place] : ends[place]].tolist():
                if self.ids[candidate].as_py() == text:  # other ids may have the same hash
                    found[place] = candidate
        return found

    @cached_property
    def _by_hash(self) -> tuple[IntArray, IntArray]:
        """(hashes, ascending; the index of the id of each)."""
        chunks = (self.ids.slice(at, CHUNK).to_pylist() for at in range(0, len(self), CHUNK))
        hashes = text_hashes(text for chunk in chunks for text in chunk)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def id_of(self, indices: IntArray) -> list[str]:
        """Raw id of each index; an index outside 0..n-1 raises."""
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"indices must be in 0..{len(self) - 1}, got {chosen.tolist()[:10]}")
        raw: list[str] = self.ids.take(pa.array(chosen)).to_pylist()
        return raw
