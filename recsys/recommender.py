"""The servable bundle: what answers "what next?" for a reader, without the training code's state.

On disk: ``vectors.safetensors`` (tensors), ``users.arrow`` and ``items.arrow`` (ids and titles),
``recommender.json`` (format and provenance). Nothing in it is executed on loading.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.data.arrays import Bags, IntArray
from recsys.data.dataset import Prepared
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ArtifactError, ConfigError
from recsys.evaluation.ranking import Vectors, rank

FORMAT = 1
MEMORY_LIMIT_MB = 256
COLUMNS = ["user_id", "rank", "item_id", "score", "title", "source"]


@dataclass(frozen=True, eq=False)
class Recommender:
    """Vectors of known users and items, what each user has seen, and how popular items are.

    Attributes:
        users: ids of the known users, U.
        items: ids of the catalogue, I.
        titles: one for each item, (I,) strings.
        vectors: the product of a user's and an item's is the score.
        seen: items known of each user when the model was judged: train and validation.
        popularity: train interactions of each item, (I,).
        provenance: where the model comes from (run, data fingerprint), as plain JSON values.
    """

    users: Vocabulary
    items: Vocabulary
    titles: pa.Array
    vectors: Vectors
    seen: Bags
    popularity: IntArray
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, vectors: Vectors, prepared: Prepared, provenance: Mapping[str, Any]) -> Self:
        """The recommender that gives the lists which evaluation on test saw."""
        known = prepared.train.by_user.union(prepared.validation.by_user)
        return cls(
            users=prepared.users,
            items=prepared.items,
            titles=prepared.books.column("title").combine_chunks(),
            vectors=vectors,
            seen=known,
            popularity=prepared.train.item_counts,
            provenance=dict(provenance),
        )

    def recommend(
        self, user_ids: Sequence[str], k: int = 10, *, exclude_seen: bool = True
    ) -> pd.DataFrame:
        """The k best books for each reader, best first.

        A reader the model does not know gets the most popular books, and the answer says so.

        Args:
            user_ids: raw ids; a reader named twice is answered twice.
            k: list length; a reader who has seen nearly everything gets fewer.
            exclude_seen: leave out what the reader is known to have read.

        Returns:
            One row a recommendation: user_id, rank (from 1), item_id, score, title and source
            (``model`` or ``popularity``).

        Raises:
            ConfigError: k is below 1 or above the size of the catalogue.
        """
        if not 1 <= k <= len(self.items):
            raise ConfigError(f"'k' must be from 1 to {len(self.items)}, the catalogue, got {k}")
        asked = np.asarray(list(user_ids), dtype=object)
        users = self.users.index_of([str(user_id) for user_id in asked])
        known, unknown = np.flatnonzero(users >= 0), np.flatnonzero(users < 0)
        masked = (self.seen,) if exclude_seen else ()
        parts = [
            self._lists(asked, known, users[known], self.vectors, masked, k, "model"),
            self._popular(asked, unknown, k),
        ]
        answer = pd.concat([part for part in parts if len(part)] or parts[:1])
        answer = answer.sort_values(["position", "rank"], kind="stable")
        return answer[COLUMNS].reset_index(drop=True)

    def _popular(self, asked: IntArray, positions: IntArray, k: int) -> pd.DataFrame:
        vectors = Vectors(
            users=np.ones((1, 1), dtype=np.float32),
            items=self.popularity.astype(np.float32)[:, None],
        )
        users = np.zeros(len(positions), dtype=np.int64)
        return self._lists(asked, positions, users, vectors, (), k, "popularity")

    def _lists(
        self,
        asked: IntArray,
        positions: IntArray,
        users: IntArray,
        vectors: Vectors,
        masked: tuple[Bags, ...],
        k: int,
        source: str,
    ) -> pd.DataFrame:
        ranking = rank(vectors, users, masked=masked, k=k, memory_limit_mb=MEMORY_LIMIT_MB)
        rows, ranks = np.nonzero(ranking.items >= 0)
        items = ranking.items[rows, ranks]
        return pd.DataFrame(
            {
                "position": positions[rows],
                "user_id": asked[positions[rows]],
                "rank": ranks + 1,
                "item_id": self.items.ids.take(pa.array(items)).to_pandas(),
                "score": ranking.scores[rows, ranks],
                "title": self.titles.take(pa.array(items)).to_pandas(),
                "source": source,
            }
        )

    def save(self, path: Path) -> None:
        """Write the bundle to the directory, whole or not at all; an older one is replaced."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            save_file(
                {
                    "user_vectors": np.ascontiguousarray(self.vectors.users),
                    "item_vectors": np.ascontiguousarray(self.vectors.items),
                    "seen_offsets": np.ascontiguousarray(self.seen.offsets, dtype=np.int64),
                    "seen_indices": np.ascontiguousarray(self.seen.indices, dtype=np.int32),
                    "popularity": np.ascontiguousarray(self.popularity, dtype=np.int64),
                },
                unfinished / "vectors.safetensors",
            )
            _write_arrow(unfinished / "users.arrow", {"user_id": self.users.ids})
            columns = {"item_id": self.items.ids, "title": self.titles}
            _write_arrow(unfinished / "items.arrow", columns)
            content = {"format": FORMAT, "provenance": dict(self.provenance)}
            (unfinished / "recommender.json").write_text(json.dumps(content, indent=2) + "\n")
            unfinished.chmod(0o755)
            replaced = unfinished.with_name(f"{unfinished.name}.old")
            if path.exists():
                os.replace(path, replaced)
            os.replace(unfinished, path)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The recommender that :meth:`save` wrote.

        Raises:
            ArtifactError: the directory holds no bundle, or a damaged one.
        """
        try:
            content = json.loads((path / "recommender.json").read_text())
            tensors = load_file(path / "vectors.safetensors")
            users, items = _read_arrow(path / "users.arrow"), _read_arrow(path / "items.arrow")
        except (OSError, ValueError, SafetensorError, pa.ArrowInvalid) as error:
            raise ArtifactError(f"{path}: must hold a whole recommender, {error}") from error
        if content.get("format") != FORMAT:
            raise ArtifactError(
                f"{path}: must be of format {FORMAT}, got {content.get('format')!r}"
            )
        recommender = cls(
            users=Vocabulary(users["user_id"].combine_chunks()),
            items=Vocabulary(items["item_id"].combine_chunks()),
            titles=items["title"].combine_chunks(),
            vectors=Vectors(users=tensors["user_vectors"], items=tensors["item_vectors"]),
            seen=Bags(tensors["seen_offsets"], tensors["seen_indices"], len(items)),
            popularity=tensors["popularity"],
            provenance=content["provenance"],
        )
        recommender._check(path)
        return recommender

    def _check(self, path: Path) -> None:
        n_users, n_items = len(self.users), len(self.items)
        held = {
            "user_vectors": (len(self.vectors.users), n_users),
            "item_vectors": (len(self.vectors.items), n_items),
            "popularity": (len(self.popularity), n_items),
            "seen_offsets": (len(self.seen.offsets), n_users + 1),
        }
        for name, (rows, expected) in held.items():
            if rows != expected:
                raise ArtifactError(f"{path}: '{name}' must have {expected} rows, got {rows}")


def _write_arrow(path: Path, columns: Mapping[str, pa.Array]) -> None:
    table = pa.table(dict(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
