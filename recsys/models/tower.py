"""A tower: indices in, vectors out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.models.augmented import AugmentedVectors
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.fusion import AdaptiveMimicFusion, Fusion
from recsys.models.history import HistoryEncoder, HistoryRows, SequenceHistory
from recsys.models.id_embedding import IdEmbedding

PADDING = 128
"""Rows are filled up to a multiple of this before products in bfloat16 on the CPU: for each
new shape oneDNN makes code, which takes longer than the product."""


@dataclass(frozen=True, eq=False)
class TowerParts:
    """What a tower's vectors are made of, before the fusion.

    Attributes:
        vectors: the fused vectors, (n, D); (n, K, D) for a user tower with K queries.
        ids: id embeddings, (n, D); zero where not known; None where the tower has none.
        is_known: whether the id has an embedding of its own (and was not dropped), (n,) bool.
        collaborative: id and history together, of the form of ``vectors``.
        is_there: whether there is an id or a history, (n,) bool.
        metadata: metadata embeddings, (n, E); None where the tower has none.
        augmented: augmented vectors, (n, D); None where the tower has none.
    """

    vectors: Tensor
    ids: Tensor | None
    is_known: Tensor
    collaborative: Tensor
    is_there: Tensor
    metadata: Tensor | None
    augmented: Tensor | None = None

    def rows(self, start: int, end: int) -> TowerParts:
        """The same of the rows from ``start`` to before ``end``."""
        # Of all ways to leave rows out, the gradient of this one takes the fewest passes.
        kept = {
            name: part.split((start, end - start, len(part) - end))[1]
            for name, part in vars(self).items()
            if part is not None
        }
        return replace(self, **kept)


class Tower(nn.Module):
    """A collaborative part (id, history) and metadata, fused; each part can be left out.

    Args:
        dim: length of a vector, D.
        id_embedding: the embeddings of warm ids.
        history: the encoder of histories; user tower only.
        history_table: item vectors of the history's own; None pools those of the item tower.
        encoder: the feature encoder; None exactly where ``fusion`` is.
        fusion: how the collaborative part and the metadata are fused.
        augmented: vectors that stand beside the metadata; None without.
    """

    def __init__(
        self,
        dim: int,
        *,
        id_embedding: IdEmbedding | None = None,
        history: HistoryEncoder | None = None,
        history_table: IdEmbedding | None = None,
        encoder: FeatureEncoder | None = None,
        fusion: Fusion | None = None,
        augmented: AugmentedVectors | None = None,
    ) -> None:
        super().__init__()
        assert (encoder is None) == (fusion is None)
        assert id_embedding is not None or history is not None or encoder is not None
        self.dim = dim
        self.id_embedding = id_embedding
        self.history = history
        self.history_table = history_table
        self.encoder = encoder
        self.fusion = fusion
        self.augmented = augmented

    def parts(
        self,
        indices: Tensor | int,
        history: HistoryRows | None = None,
        table: Tensor | None = None,
    ) -> TowerParts:
        """The vectors of the given indices, and what they are made of.

        Args:
            indices: (n,) int64; a number stands for the first so many.
            history: of each of the n rows, where the tower has a history.
            table: the item vectors that ``history`` names rows of, (m, D).
        """
        rows = self._rows(indices)
        n = len(rows)
        more = -n % PADDING if self._changes_in_number(indices, history) else 0
        if more:
            assert isinstance(indices, Tensor)
            rows, indices = F.pad(rows, (0, more)), F.pad(indices, (0, more))
        parts = self._parts(indices, rows, history, table)
        return parts.rows(0, n) if more else parts

    def _changes_in_number(self, indices: Tensor | int, history: HistoryRows | None) -> bool:
        """Whether each batch has another number of rows: distinct ones, and none with a history."""
        if isinstance(indices, int) or history is not None or self.encoder is None:
            return False
        return not indices.is_cuda and torch.is_autocast_enabled("cpu")

    def _parts(
        self,
        indices: Tensor | int,
        rows: Tensor,
        history: HistoryRows | None,
        table: Tensor | None,
    ) -> TowerParts:
        """The parts of rows, given the weight row of each id."""
        ids = None if self.id_embedding is None else self.id_embedding(rows)
        is_known = rows > 0
        collaborative, is_there = ids, is_known
        if self.history is not None:
            assert history is not None and table is not None
            pooled = self.history(history, table)
            is_there = is_known | (history.lengths > 0)
            collaborative = pooled if ids is None else pooled + _beside(ids, pooled)
        if self.encoder is None or self.fusion is None:
            assert collaborative is not None
            return TowerParts(collaborative, ids, is_known, collaborative, is_there, None)
        metadata = self.encoder(indices)
        if collaborative is None:
            collaborative = metadata.new_zeros((len(metadata), self.dim))
        joined = metadata
        augmented = None if self.augmented is None else self.augmented(rows)
        if augmented is not None:
            joined = torch.cat([metadata, augmented], dim=1)
        vectors = self.fusion(
            collaborative, _beside(joined, collaborative), _beside(is_there, collaborative)
        )
        return TowerParts(vectors, ids, is_known, collaborative, is_there, metadata, augmented)

    def _rows(self, indices: Tensor | int) -> Tensor:
        """The weight row of each id, (n,) int64; 0 where the tower does not know it."""
        if isinstance(indices, int):
            indices = torch.arange(indices, device=next(self.parameters()).device)
        table = self.id_embedding
        if table is None and self.augmented is not None:
            table = self.augmented.table
        if table is None:  # a tower with a history alone may have no parameters
            return torch.zeros_like(indices)
        return table.rows(indices)

    def forward(
        self,
        indices: Tensor | int,
        history: HistoryRows | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        """The vectors of the given indices, (n, D) or (n, K, D)."""
        return self.parts(indices, history, table).vectors

    @property
    def takes_all_rows(self) -> bool:
        """Whether some rows of a batch, encoded alone, would leave another model behind.

        Torch's attention draws dropout for all rows at once, and a table with ``max_norm`` scales
        the rows that it is asked for.
        """
        tables = [each.embedding for each in self.modules() if isinstance(each, IdEmbedding)]
        if any(table.max_norm is not None for table in tables):
            return True
        return isinstance(self.history, SequenceHistory) and self.history.draws_by_batch

    @property
    def has_gates(self) -> bool:
        """Whether the fusion is adaptive mimic."""
        return isinstance(self.fusion, AdaptiveMimicFusion)

    def gates(self, parts: TowerParts) -> Tensor:
        """Gate values of adaptive mimic, of the form of the vectors."""
        assert isinstance(self.fusion, AdaptiveMimicFusion) and parts.metadata is not None
        together = parts.collaborative
        return self.fusion.gates(
            together, _beside(parts.metadata, together), _beside(parts.is_there, together)
        )


def _beside(rows: Tensor, vectors: Tensor) -> Tensor:
    """One value a row, (n, ...), repeated for each query where the vectors are (n, K, D)."""
    if vectors.ndim == 2:
        return rows
    return rows.unsqueeze(1).expand(-1, vectors.shape[1], *rows.shape[1:])
