"""Settings of ``model``: the two towers and how their vectors meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from recsys.config.section import Positive, Probability, Section, fill, merge, require, settle

IdEmbeddingType = Literal["embedding", "none"]
EncoderType = Literal["mlp", "linear", "none"]
HistoryPooling = Literal["none", "sum", "mean", "sqrt", "attention", "sequence"]
HistoryTable = Literal["item_tower", "own"]
Recency = Literal["none", "position", "time"]
QueryScore = Literal["logsumexp", "max"]
FusionName = Literal["identity", "sum", "concat", "adaptive_mimic", "dual_augmented"]
Similarity = Literal["cosine", "dot"]
Device = Literal["cpu", "cuda", "auto"]


class EmbeddingParams(Section):
    """A table with one learned vector an id."""

    embedding_dim: Positive = 128
    """Length D of id embeddings and tower vectors."""
    sparse: bool = False
    """Sparse gradients, so that a step of row-wise Adam moves only the rows that the batch used."""
    max_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale id embeddings back to this length when longer; needs sparse: false."""
    dropout: Probability | None = None
    """Share of ids treated as unknown in training, so that the rest of the tower becomes
    meaningful without them. Where not given: 0.1 with fusion concat, adaptive_mimic or
    dual_augmented, else 0."""
    initial_std: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the initial vectors."""


class IdEmbeddingConfig(Section):
    """Whether and how a tower knows its ids."""

    type: IdEmbeddingType | None = None
    """embedding: one vector for each id with train interactions. none: the tower knows no ids.
    Where not given: embedding, but none in the user tower with ``examples: histories``."""
    params: EmbeddingParams = EmbeddingParams()
    """The table."""


class FeatureEncoderConfig(Section):
    """The feature encoder: metadata in, ``output_dim`` numbers out."""

    type: EncoderType = "linear"
    """mlp: hidden layers with ReLU and dropout. linear: one layer. none: no metadata at all."""
    hidden_dims: tuple[Positive, ...] | None = None
    """mlp: widths of the hidden layers ([192] where not given)."""
    output_dim: Positive | None = None
    """Length of the metadata embedding (``embedding_dim`` where not given); only the fusions
    'concat' and 'dual_augmented' take another length."""
    dropout: Probability | None = None
    """mlp: share of hidden units left out in training (0.1 where not given)."""
    bag_dim: Positive | None = None
    """null: each column of a text field has weights of its own in the first layer. A number: the
    mean of learned embeddings of so many dimensions joins the numbers instead."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        where = f"with type 'mlp', got '{self.type}'"
        settle(self, self.type == "mlp", where, {"hidden_dims": (192,), "dropout": 0.1})
        require(self.hidden_dims != (), "'hidden_dims' must name a layer; type 'linear' has none")
        return self


class HistoryConfig(Section):
    """The items that a user has, as a part of the user tower."""

    pooling: HistoryPooling = "sum"
    """How the items' vectors become one. none: no history. sum, mean, sqrt (the sum over the root
    of their number): for cosine they are one and the same where the user tower has nothing else.
    attention: a learned query weighs them. sequence: causal self-attention over the items in their
    order, as in SASRec (Kang and McAuley 2018); the last output counts."""
    table: HistoryTable = "item_tower"
    """item_tower: the vectors that the item tower gives. own: a table of the history's own, with
    the settings of the item tower's id embedding."""
    recency: Recency | None = None
    """A learned curve of weights: none, by position (0 is the most recent), or by time in days
    before the latest interaction. Where not given: none for sequence and for data without an
    order, else position."""
    ratings: bool = True
    """A learned weight for each rating, where the data has ratings."""
    max_length: Positive = 200
    """At most so many items, the most recent ones where the data has an order."""
    temperature_power: Annotated[float, Field(ge=0)] | None = None
    """cosine: scores are multiplied by (items of the user / 10) to this power, so that more
    evidence gives surer scores (0.4 where not given)."""
    layers: Positive | None = None
    """sequence: layers of self-attention (2 where not given)."""
    heads: Positive | None = None
    """sequence: heads of each layer (2 where not given)."""
    dropout: Probability | None = None
    """sequence: dropout in its layers (0.1 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        where = f"with pooling 'sequence', got '{self.pooling}'"
        settle(self, self.pooling == "sequence", where, {"layers": 2, "heads": 2, "dropout": 0.1})
        require(
            self.pooling != "sequence" or self.recency in (None, "none"),
            f"'recency' must be 'none' with pooling 'sequence', which knows the order, "
            f"got '{self.recency}'",
        )
        return self


class TowerConfig(Section):
    """One tower."""

    id_embedding: IdEmbeddingConfig = IdEmbeddingConfig()
    """One vector an id."""
    feature_encoder: FeatureEncoderConfig = FeatureEncoderConfig()
    """What the metadata becomes."""
    fusion: FusionName = "sum"
    """How the collaborative part (id and history) and the metadata embedding become one vector.
    identity: the collaborative part alone. sum. concat: a linear layer over both. adaptive_mimic:
    a learned gate for each dimension, closed where nothing collaborative is known. dual_augmented:
    a hidden layer over both and a vector an id that ``training.mimic_weight`` draws to what the
    other tower gives for the id's positives (Yu et al. 2021)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        encoder, dim = self.feature_encoder, self.dim
        require(
            self.fusion == "identity" or encoder.type != "none",
            f"'fusion' must be 'identity' where 'feature_encoder.type' is 'none': "
            f"'{self.fusion}' has no metadata to fuse",
        )
        fill(encoder, output_dim=dim)
        require(
            self.fusion not in ("sum", "adaptive_mimic") or encoder.output_dim == dim,
            f"'feature_encoder.output_dim' must be 'embedding_dim' ({dim}) with fusion "
            f"'{self.fusion}', got {encoder.output_dim}",
        )
        params = self.id_embedding.params
        fill(params, dropout=0.0 if self.fusion in ("identity", "sum") else 0.1)
        require(
            not (params.sparse and params.max_norm is not None),
            f"'max_norm' needs 'sparse: false', got max_norm {params.max_norm} with sparse: true",
        )
        return self

    @property
    def dim(self) -> int:
        """Length of the tower's vectors."""
        return self.id_embedding.params.embedding_dim


class ItemTowerConfig(TowerConfig):
    """The item tower."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        fill(self.id_embedding, type="embedding")
        require(
            self.id_embedding.type == "embedding" or self.fusion != "identity",
            "'item_encoder' must know ids or metadata: 'id_embedding.type' is 'none' and 'fusion' "
            "is 'identity'",
        )
        return self


class UserTowerConfig(TowerConfig):
    """The user tower."""

    feature_encoder: FeatureEncoderConfig = FeatureEncoderConfig(type="none")
    """What the metadata of a user's items, put together, becomes."""
    fusion: FusionName = Field(
        default="identity", description=TowerConfig.model_fields["fusion"].description
    )
    history: HistoryConfig = HistoryConfig()
    """The items that the user has."""
    queries: Positive = 1
    """Vectors a user. With more than one, each item of the history is shared out among as many
    learned prototypes, and the items of each make one vector."""
    query_score: QueryScore | None = None
    """queries above 1: how the scores of a user's vectors become one: logsumexp (where not given)
    or max."""
    query_prior: Annotated[float, Field(ge=0)] | None = None
    """queries above 1, cosine: the scores of each of a user's vectors are raised by so many times
    the logarithm of its share, its length over the sum of all K lengths (0.5 where not given)."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        has_history = self.history.pooling != "none"
        require(
            self.id_embedding.type != "none" or has_history or self.fusion != "identity",
            "'user_encoder' must know ids, a history or metadata: 'id_embedding.type' and "
            "'history.pooling' are 'none' and 'fusion' is 'identity'",
        )
        encoder = self.feature_encoder
        is_said = encoder.type != "none" and "type" in encoder.model_fields_set
        require(
            not is_said or "fusion" in self.model_fields_set,
            "'user_encoder.fusion' must be given with its 'feature_encoder.type', got "
            f"'{encoder.type}' alone: under 'identity', the default of the user tower, metadata "
            "says nothing",
        )
        require(
            self.queries == 1 or self.history.pooling in ("sum", "mean", "sqrt"),
            f"'queries' above 1 need 'history.pooling' sum, mean or sqrt, got "
            f"'{self.history.pooling}'",
        )
        heads = self.history.heads or 1
        require(
            self.dim % heads == 0,
            f"'heads' must divide 'embedding_dim', got {heads} heads and {self.dim} dimensions",
        )
        settle(self, self.queries > 1, "with queries > 1", {"query_score": "logsumexp"})
        return self


_SHARED = tuple(TowerConfig.model_fields)
_UNLIKE = {"id_embedding": ("type",), "feature_encoder": ("type",)}
"""What the item tower does not take over from the user tower: whether a part is there at all is
said by each tower for itself, unless the part is switched on."""


class ModelConfig(Section):
    """The two towers and how their vectors meet."""

    user_encoder: UserTowerConfig = UserTowerConfig()
    """The user tower."""
    item_encoder: ItemTowerConfig = Field(
        default=ItemTowerConfig(), json_schema_extra={"follows": "user_encoder"}
    )
    """The item tower; what is not said is as in ``user_encoder`` where that says it."""
    similarity: Similarity = "cosine"
    """cosine (divided by a temperature) or dot."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """cosine: what the cosine is divided by; where learned, its start. Where not given: 0.12; with
    objective softmax 0.82 / ln(items of train), such as 0.12 for 900 and 0.09 for 10,000, since
    among more items a good one must stand out more."""
    learn_temperature: bool | None = None
    """cosine: learn the temperature or keep it fixed. Where not given, it is learned by the
    objectives over pairs (sampled_bce, bpr)."""
    popularity: bool | None = None
    """Add a learned weight times the logarithm of an item's train interactions to the score, which
    a cosine cannot say. Items without any count as average. Where not given: true, but false with
    the split 'cold_items', where metadata has to say how popular a new item will be."""
    device: Device = "auto"
    """auto uses a CUDA device where there is one."""

    @model_validator(mode="before")
    @classmethod
    def _item_follows_user(cls, data: Any) -> Any:
        """Give the item tower what only the user tower says."""
        if not isinstance(data, Mapping) or "user_encoder" not in data:
            return data
        said, item = _as_tree(data["user_encoder"]), _as_tree(data.get("item_encoder") or {})
        if not isinstance(said, dict) or not isinstance(item, dict):
            return data
        followed = {name: said[name] for name in _SHARED if name in said}
        for part, names in _UNLIKE.items():
            if isinstance(followed.get(part), dict) and followed[part].get("type") == "none":
                followed[part] = {k: v for k, v in followed[part].items() if k not in names}
        if followed.get("fusion") == "identity" and "fusion" not in item:
            del followed["fusion"]
        return {**data, "item_encoder": merge(followed, item)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        user, item = self.user_encoder, self.item_encoder
        require(
            user.dim == item.dim,
            "both towers must give vectors of one length: 'embedding_dim' is "
            f"{user.dim} in 'user_encoder' and {item.dim} in 'item_encoder'",
        )
        is_cosine, where = self.similarity == "cosine", "with similarity 'cosine', got 'dot'"
        history = "user_encoder.history."
        settle(user.history, is_cosine, where, {"temperature_power": 0.4}, prefix=history)
        has_prior, both = is_cosine and user.queries > 1, "with similarity 'cosine' and queries > 1"
        settle(user, has_prior, both, {"query_prior": 0.5}, prefix="user_encoder.")
        # What they are where not given depends on the objective: see derived.py.
        settle(self, is_cosine, where, {"temperature": None, "learn_temperature": None})
        return self


def _as_tree(section: Any) -> Any:
    """A section's given settings as nested dicts; anything else as it is."""
    return section.model_dump(exclude_unset=True) if isinstance(section, Section) else section
