"""A tower: indices in, vectors out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from recsys.models.draws import Draws
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.fusion import AdaptiveMimicFusion, Fusion
from recsys.models.id_embedding import IdEmbedding


@dataclass(frozen=True, eq=False)
class TowerParts:
    """What a tower's vectors are made of, before the fusion.

    Attributes:
        vectors: the fused vectors, (n, D).
        ids: id embeddings, (n, D); zero where not known.
        metadata: metadata embeddings, (n, D), or None where the tower has none.
        is_known: whether the id has an embedding of its own (and was not dropped), (n,) bool.
    """

    vectors: Tensor
    ids: Tensor
    metadata: Tensor | None
    is_known: Tensor


class Tower(nn.Module):
    """An id embedding and, unless the fusion is ``identity``, a feature encoder, fused.

    Args:
        id_embedding: the embeddings of warm ids.
        encoder: the feature encoder, or None for ids alone.
        fusion: how both are fused; None exactly where ``encoder`` is None.
        id_dropout: share of ids treated as unknown in training.
    """

    def __init__(
        self,
        id_embedding: IdEmbedding,
        encoder: FeatureEncoder | None = None,
        fusion: Fusion | None = None,
        *,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        assert (encoder is None) == (fusion is None)
        self.id_embedding = id_embedding
        self.encoder = encoder
        self.fusion = fusion
        # Ids alone have nothing to fall back on, so dropping them would only add noise.
        self.id_dropout = id_dropout if encoder is not None else 0.0

    def parts(self, indices: Tensor, draws: Draws | None = None) -> TowerParts:
        """The vectors of the given indices, and what they are made of.

        Args:
            indices: (n,) int64.
            draws: of these rows of a batch, for dropout; None takes fresh ones.
        """
        if self.training and draws is None and (self.id_dropout > 0 or self.encoder is not None):
            draws = Draws.fresh()
        dropout = self.id_dropout if self.training else 0.0
        rows = self.id_embedding.rows(indices, draws, dropout)
        ids, is_known = self.id_embedding(rows), rows > 0
        if self.encoder is None or self.fusion is None:
            return TowerParts(ids, ids, None, is_known)
        # Under autocast both end in a bfloat16 product; whatever is summed is a float32.
        metadata = self.encoder(indices, draws).to(ids.dtype)
        vectors = self.fusion(ids, metadata, is_known).to(ids.dtype)
        return TowerParts(vectors, ids, metadata, is_known)

    def forward(self, indices: Tensor) -> Tensor:
        """The vectors of the given indices, (n, D)."""
        return self.parts(indices).vectors

    @property
    def has_gates(self) -> bool:
        """Whether the fusion is adaptive mimic."""
        return isinstance(self.fusion, AdaptiveMimicFusion)

    def gates(self, parts: TowerParts) -> Tensor | None:
        """Gate values of adaptive mimic, (n, D); None for another fusion."""
        if not isinstance(self.fusion, AdaptiveMimicFusion):
            return None
        assert parts.metadata is not None
        return self.fusion.gates(parts.ids, parts.metadata, parts.is_known)
