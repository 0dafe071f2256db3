"""The configuration tree: every setting, its default, and what must hold of it.

Defaults live here and nowhere else; a YAML file holds differences. A setting that only some choice
of another setting gives a meaning (``temperature`` with ``cosine``) is ``None`` until that choice
is made, and refused where it would have no effect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from recsys.addresses import without_password

BagKind = Literal["top_k", "hashed"]
UserAggregation = Literal["mean", "sum", "max", "time_decayed_mean"]
SplitStrategy = Literal[
    "leave_latest_out", "leave_random_out", "global_time", "random", "cold_items", "given"
]
Order = Literal["timestamp", "rows"]
BadRows = Literal["error", "drop"]
IdEmbeddingType = Literal["embedding", "none"]
EncoderType = Literal["mlp", "linear", "none"]
HistoryPooling = Literal["none", "sum", "mean", "sqrt", "attention", "sequence"]
HistoryTable = Literal["item_tower", "own"]
Recency = Literal["none", "position", "time"]
QueryScore = Literal["logsumexp", "max"]
ObjectiveName = Literal["sampled_bce", "bpr", "sampled_softmax", "softmax", "ccl", "bsl"]
Examples = Literal["pairs", "histories"]
Targets = Literal["random", "next"]
Schedule = Literal["constant", "linear"]
FusionName = Literal["identity", "sum", "concat", "adaptive_mimic", "dual_augmented"]
Similarity = Literal["cosine", "dot"]
Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["auto", "float32", "bfloat16"]
NegativeSampling = Literal["uniform", "popularity", "in_batch"]
DenseOptimizer = Literal["adam", "adamw", "sgd"]
BaselineName = Literal["popularity", "item_knn", "ease", "ials", "bpr"]
BookField = Literal[
    "item_id", "title", "author", "categories", "average_rating", "rating_number", "price"
]
InteractionField = Literal["user_id", "item_id", "rating", "timestamp"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
SHARED_SPLITS = ("global_time", "random", "cold_items")
"""Splits that hold out a share."""
TIMED_SPLITS = ("leave_latest_out", "global_time")
"""Splits that hold out what comes last."""
DRAWN_SPLITS = ("leave_random_out", "random", "cold_items")
"""Splits that draw what they hold out."""
DEFAULT_NUMERIC_COLUMNS = ("average_rating", "rating_number", "price")
RANKING_METRICS = ("recall", "precision", "ndcg", "hit_rate", "map", "mrr")


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        revalidate_instances="always",  # defaults are copied, so filling one in touches no other
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1, and the system refuses paths with a control character."""
        kind = str(cls.model_fields[info.field_name or ""].annotation)
        held = list(value.values()) if isinstance(value, Mapping) and "dict[" in kind else value
        parts = held if isinstance(held, (list, tuple)) else [held]
        require(
            "bool" in kind or "Any" in kind or not any(isinstance(part, bool) for part in parts),
            f"must hold no truth value, got {value!r:.80}",
        )
        require(
            all(part.isprintable() for part in parts if isinstance(part, str)),
            f"must be printable text, got {value!a:.80}",
        )
        return value


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless the condition holds; pydantic adds the place."""
    if not condition:
        raise ValueError(message)


class SplitConfig(Section):
    """How train, validation and test are told apart."""

    strategy: SplitStrategy | None = None
    """leave_latest_out (where not given): each user's latest interaction is test, the one before
    validation. leave_random_out: of each user with at least 3, one at random is test, another
    validation. global_time: a cut in time for all users. random: a share of each user's
    interactions. cold_items: all interactions of a share of the items. given: ready-made, in
    ``test_path`` and ``validation_path`` (filled in where ``test_path`` is given)."""
    order: Order = "timestamp"
    """What says which interaction came first: the timestamp column, or the order of the rows."""
    validation_fraction: Fraction | None = None
    """Share for validation (0.1 where not given): of all interactions (global_time), of each user's
    (random; given without ``validation_path``: of those in train), or of the items (cold_items)."""
    test_fraction: Fraction | None = None
    """Share for test (0.1 where not given): the same (global_time, random and cold_items)."""
    n_validation_items: Positive | None = None
    """cold_items: hold out so many items for validation, in place of a share."""
    n_test_items: Positive | None = None
    """cold_items: hold out so many items for test, in place of a share."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.strategy is not None:  # else the data's files decide
            self.fill(self.strategy)
        return self

    def fill(self, strategy: SplitStrategy) -> None:
        """Check and fill in what the strategy needs; to be called once, while settings are made."""
        object.__setattr__(self, "strategy", strategy)
        for part in ("validation", "test"):
            share, count = f"{part}_fraction", f"n_{part}_items"
            taken = strategy in SHARED_SPLITS or (strategy == "given" and part == "validation")
            require(
                getattr(self, share) is None or taken,
                f"'{share}' has a meaning only with strategy 'global_time', 'random' or "
                f"'cold_items', got '{strategy}'",
            )
            require(
                getattr(self, count) is None or strategy == "cold_items",
                f"'{count}' has a meaning only with strategy 'cold_items', got '{strategy}'",
            )
            require(
                getattr(self, count) is None or getattr(self, share) is None,
                f"only one of '{count}' and '{share}' can be given",
            )
            if strategy in SHARED_SPLITS and getattr(self, count) is None:
                object.__setattr__(self, share, getattr(self, share) or 0.1)
        total = (self.validation_fraction or 0) + (self.test_fraction or 0)
        require(
            total < 1, f"'validation_fraction' + 'test_fraction' must be below 1, got {total:g}"
        )

    @property
    def is_drawn(self) -> bool:
        """Whether the seed decides what is held out."""
        drawn = self.strategy in DRAWN_SPLITS
        return drawn or (self.strategy == "given" and self.validation_fraction is not None)


class FeatureParams(Section):
    """What the towers know about books and users beside their ids."""

    numeric_columns: tuple[str, ...] = DEFAULT_NUMERIC_COLUMNS
    """Numeric columns of the books file to use as features. Of the default three, those that the
    file lacks are left out; of any other choice every column must be there."""
    category_top_k: Count = 5000
    """Columns for the '|'-separated categories; 0 leaves the field out."""
    author_top_k: Count = 5000
    """Columns for the ','-separated authors; 0 leaves the field out."""
    series_top_k: Count = 5000
    """Columns for the series that a title names, as in "Catching Fire (The Hunger Games, #2)"; 0
    leaves the field out."""
    title_word_top_k: Count = 5000
    """Columns for the words of the title; 0 leaves the field out."""
    title_ngram_top_k: Count = 0
    """Columns for the character trigrams of these words; 0 leaves the field out."""
    bag_kind: BagKind = "top_k"
    """top_k: one column for each of the most frequent values among train books.
    hashed: every value falls in one of as many buckets; some collide."""
    min_count: Positive = 2
    """Leave out values (hashed: buckets) that fewer train books have."""
    idf: bool = True
    """A value weighs log(train books / train books that have it), and the values of a field in a
    book are scaled to length 1; false: every value weighs 1."""
    title: bool = True
    """Word and character statistics of the title."""
    log_skewness: float | None = 2.0
    """Take log(1 + x) of a non-negative numeric column whose skewness among train books is above
    this; null never does."""
    user_aggregation: UserAggregation = "mean"
    """How the features of a user's train books become the user's own."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """time_decayed_mean: after how many days an interaction counts half (90 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = self.numeric_columns
        repeated = sorted({c for c in columns if columns.count(c) > 1})
        require(not repeated, f"'numeric_columns' must name a column once, got {repeated} twice")
        if self.user_aggregation == "time_decayed_mean":
            object.__setattr__(self, "half_life_days", self.half_life_days or 90.0)
        else:
            require(
                self.half_life_days is None,
                "'half_life_days' has a meaning only with user_aggregation 'time_decayed_mean', "
                f"got '{self.user_aggregation}'",
            )
        return self

    @property
    def top_k(self) -> dict[str, int]:
        """Columns, or buckets, of each text field, by the name of its bag; 0 for none."""
        return {
            "categories": self.category_top_k,
            "authors": self.author_top_k,
            "series": self.series_top_k,
            "title_words": self.title_word_top_k,
            "title_ngrams": self.title_ngram_top_k,
        }

    @property
    def needs_numeric_columns(self) -> bool:
        """Whether a books file must have all the numeric columns."""
        return set(self.numeric_columns) != set(DEFAULT_NUMERIC_COLUMNS)


class DataConfig(Section):
    """From two files to a prepared data set."""

    books_path: Path | None = Path("data/sample/books.csv")
    """One row a book: .csv, .csv.gz or .parquet; null where items are known by their ids alone."""
    interactions_path: Path = Path("data/sample/users.csv")
    """One row an interaction: .csv, .csv.gz or .parquet; or one line a user, "user item item ...":
    .txt or .txt.gz. Where ``test_path`` is given, the train interactions."""
    validation_path: Path | None = None
    """Ready-made split: the interactions to validate on; null cuts them at random from train."""
    test_path: Path | None = None
    """Ready-made split: the interactions to test on."""
    cache_dir: Path = Path("artifacts/cache")
    """Where prepared data sets are kept, each under the fingerprint of its input and settings."""
    book_columns: dict[BookField, str] = {}
    """The file's own names for our columns, for example {item_id: parent_asin}."""
    interaction_columns: dict[InteractionField, str] = {}
    """The same for the interactions."""
    books_limit: Positive | None = None
    """Read only the first so many books."""
    interactions_limit: Positive | None = None
    """Read only the first so many interactions (of ``interactions_path``)."""
    bad_rows: BadRows = "error"
    """A row that cannot be read ends the run (error), or is left out and counted (drop)."""
    min_rating: float | None = None
    """Leave out interactions rated lower."""
    min_user_interactions: Positive | None = None
    """Leave out users with fewer interactions, until nothing changes (k-core); 5 where not given,
    1 with a ready-made split."""
    min_item_interactions: Positive | None = None
    """Leave out books with fewer interactions, until nothing changes (k-core); 10 where not given,
    1 with a ready-made split."""
    split: SplitConfig = SplitConfig()
    """How train, validation and test are told apart."""
    feature_params: FeatureParams = FeatureParams()
    """What the towers know beside ids."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.test_path is None:
            self._check_own_split()
        else:
            self._check_ready_made_split()
        require(
            self.books_path is not None or (self.books_limit is None and not self.book_columns),
            "'books_limit' and 'book_columns' have a meaning only with a 'books_path', got null",
        )
        require(
            self.feature_params.user_aggregation != "time_decayed_mean"
            or self.split.order == "timestamp",
            "'feature_params.user_aggregation: time_decayed_mean' needs 'split.order: timestamp', "
            "got 'rows', which says nothing of days",
        )
        return self

    def _check_own_split(self) -> None:
        require(
            self.validation_path is None and self.split.strategy != "given",
            "a ready-made split ('validation_path', 'split.strategy: given') needs a 'test_path'",
        )
        if self.split.strategy is None:
            self.split.fill("leave_latest_out")
        self._fill_minimums(user=5, item=10)

    def _check_ready_made_split(self) -> None:
        require(
            self.split.strategy in (None, "given"),
            "with a 'test_path' the split is as given: 'split.strategy' must be null or 'given', "
            f"got '{self.split.strategy}'",
        )
        self.split.fill("given")
        if self.validation_path is None:
            share = self.split.validation_fraction or 0.1
            object.__setattr__(self.split, "validation_fraction", share)
        else:
            require(
                self.split.validation_fraction is None,
                "'split.validation_fraction' has no meaning with a 'validation_path'",
            )
        paths = [p for p in (self.interactions_path, self.validation_path, self.test_path) if p]
        require(
            len(set(paths)) == len(paths),
            "'interactions_path', 'validation_path' and 'test_path' must be different files",
        )
        self._fill_minimums(user=1, item=1)
        kept = (self.min_user_interactions, self.min_item_interactions, self.min_rating)
        require(
            kept == (1, 1, None),
            "a ready-made split ('test_path') is not filtered: 'min_user_interactions' and "
            "'min_item_interactions' must be null or 1 and 'min_rating' null, got "
            f"{kept[0]}, {kept[1]} and {'null' if kept[2] is None else f'{kept[2]:g}'}",
        )

    def _fill_minimums(self, *, user: int, item: int) -> None:
        minimums = {"min_user_interactions": user, "min_item_interactions": item}
        for name, default in minimums.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)

    @property
    def source_paths(self) -> dict[str, Path]:
        """The files that are read, by "books", "interactions", "validation" and "test"."""
        paths = {
            "books": self.books_path,
            "interactions": self.interactions_path,
            "validation": self.validation_path,
            "test": self.test_path,
        }
        return {name: path for name, path in paths.items() if path is not None}


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
        if self.type == "mlp":
            dims = (192,) if self.hidden_dims is None else self.hidden_dims
            require(dims != (), "'hidden_dims' must name a layer; type 'linear' has none")
            object.__setattr__(self, "hidden_dims", dims)
            object.__setattr__(self, "dropout", 0.1 if self.dropout is None else self.dropout)
        else:
            for name in ("hidden_dims", "dropout"):
                require(
                    getattr(self, name) is None,
                    f"'{name}' has a meaning only with type 'mlp', got '{self.type}'",
                )
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
    evidence gives surer scores (0.5 where not given)."""
    layers: Positive | None = None
    """sequence: layers of self-attention (2 where not given)."""
    heads: Positive | None = None
    """sequence: heads of each layer (2 where not given)."""
    dropout: Probability | None = None
    """sequence: dropout in its layers (0.1 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, default in (("layers", 2), ("heads", 2), ("dropout", 0.1)):
            given = getattr(self, name)
            if self.pooling == "sequence":
                object.__setattr__(self, name, default if given is None else given)
            else:
                require(
                    given is None,
                    f"'{name}' has a meaning only with pooling 'sequence', got '{self.pooling}'",
                )
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
        if encoder.output_dim is None:
            object.__setattr__(encoder, "output_dim", dim)
        require(
            self.fusion not in ("sum", "adaptive_mimic") or encoder.output_dim == dim,
            f"'feature_encoder.output_dim' must be 'embedding_dim' ({dim}) with fusion "
            f"'{self.fusion}', got {encoder.output_dim}",
        )
        params = self.id_embedding.params
        if params.dropout is None:
            share = 0.0 if self.fusion in ("identity", "sum") else 0.1
            object.__setattr__(params, "dropout", share)
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
        if self.id_embedding.type is None:
            object.__setattr__(self.id_embedding, "type", "embedding")
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
    fusion: FusionName = "identity"
    """As in the item tower."""
    history: HistoryConfig = HistoryConfig()
    """The items that the user has."""
    queries: Positive = 1
    """Vectors a user. With more than one, each item of the history is shared out among as many
    learned prototypes, and the items of each make one vector."""
    query_score: QueryScore | None = None
    """queries above 1: how the scores of a user's vectors become one: logsumexp (where not given)
    or max."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        has_history = self.history.pooling != "none"
        require(
            self.id_embedding.type != "none" or has_history or self.fusion != "identity",
            "'user_encoder' must know ids, a history or metadata: 'id_embedding.type' and "
            "'history.pooling' are 'none' and 'fusion' is 'identity'",
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
        if self.queries > 1:
            object.__setattr__(self, "query_score", self.query_score or "logsumexp")
        else:
            require(self.query_score is None, "'query_score' has a meaning only with queries > 1")
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
    """cosine: what the cosine is divided by (0.12 where not given); where learned, its start."""
    learn_temperature: bool | None = None
    """cosine: learn the temperature or keep it fixed. Where not given, it is learned by the
    objectives that judge pairs (sampled_bce, bpr)."""
    popularity: bool = True
    """Add a learned weight times the logarithm of an item's train interactions to the score, which
    a cosine cannot say. Items without any count as average."""
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
        return {**data, "item_encoder": _over(followed, item)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        user, item = self.user_encoder, self.item_encoder
        require(
            user.dim == item.dim,
            "both towers must give vectors of one length: 'embedding_dim' is "
            f"{user.dim} in 'user_encoder' and {item.dim} in 'item_encoder'",
        )
        if self.similarity == "cosine":
            power = user.history.temperature_power
            object.__setattr__(user.history, "temperature_power", 0.5 if power is None else power)
        else:
            given = {"temperature": self.temperature, "learn_temperature": self.learn_temperature}
            given["user_encoder.history.temperature_power"] = user.history.temperature_power
            for name, value in given.items():
                require(
                    value is None,
                    f"'{name}' has a meaning only with similarity 'cosine', got 'dot'",
                )
        return self


def _as_tree(section: Any) -> Any:
    """A section's given settings as nested dicts; anything else as it is."""
    return section.model_dump(exclude_unset=True) if isinstance(section, Section) else section


def _over(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        below = merged.get(name)
        both = isinstance(below, dict) and isinstance(value, Mapping)
        merged[name] = _over(below, value) if both else value  # type: ignore[arg-type]
    return merged


class EarlyStoppingConfig(Section):
    """When training ends before ``num_epochs``."""

    monitor: str = "ndcg@10"
    """Validation metric to watch; higher is better."""
    patience: Positive | None = 3
    """Stop after so many epochs without a better value; null never stops early."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """How much better a value must be to count."""


class HistorySplitConfig(Section):
    """examples 'histories': which of a user's items are the input, and which the targets."""

    targets: Targets = "random"
    """random: a random share of the items is the input, the others are targets. next: a window of
    items that follow one another; those before it are the input."""
    input_share: tuple[Fraction, Fraction] | None = None
    """random: the share of the input is uniform between these ([0.3, 0.9] where not given)."""
    window: Positive | None = None
    """next: items that are targets (2 where not given)."""
    after: bool | None = None
    """next: items after the window are input as well, with their distance for their position
    (true where not given, but false for pooling 'sequence', where the last item counts). In serving
    there are none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        filled: dict[str, Any] = {"input_share": (0.3, 0.9)}
        if self.targets == "next":
            filled = {"window": 2, "after": True}
        for name in ("input_share", "window", "after"):
            given = getattr(self, name)
            if name in filled:
                object.__setattr__(self, name, filled[name] if given is None else given)
            else:
                require(
                    given is None,
                    f"'{name}' has no meaning with targets '{self.targets}'",
                )
        if self.input_share is not None:
            low, high = self.input_share
            require(low <= high, f"'input_share' must not fall, got [{low:g}, {high:g}]")
        return self


class TrainingConfig(Section):
    """How the towers learn."""

    objective: ObjectiveName | None = None
    """What is minimised. softmax: cross-entropy over the whole catalogue. sampled_softmax: over
    drawn or in-batch negatives. sampled_bce, bpr, ccl, bsl: see docs/model.md. Where not given:
    sampled_bce if ``negatives_per_positive`` is given, else softmax."""
    examples: Examples | None = None
    """pairs: each interaction, with the user's history without it. histories: each user's items,
    split into input and targets anew every epoch; needs a history. Where not given: histories for
    softmax where the user tower has a history, else pairs."""
    history_split: HistorySplitConfig | None = None
    """histories: which items are the input and which the targets."""
    num_epochs: Positive = 20
    """At most so many passes over the train interactions (pairs) or the users (histories)."""
    batch_size: Positive | None = None
    """Positives (pairs; 1024 where not given) or users (histories; 256) a step."""
    negatives_per_positive: Positive | None = None
    """Items the user is not known to have, drawn for each positive (5 where not given, for the
    objectives that draw). Refused where nothing is drawn for a positive."""
    shared_negatives: Positive | None = None
    """So many negatives drawn once for the whole batch instead, for sampled_bce,
    sampled_softmax, ccl and bsl; a user's known items do not count among them."""
    negative_sampling: NegativeSampling | None = None
    """uniform over the train items (where not given), by popularity to the power
    ``popularity_alpha``, or in_batch: the batch's own positives (sampled_softmax)."""
    popularity_alpha: Annotated[float, Field(ge=0)] | None = None
    """popularity: the exponent (0.75 where not given)."""
    softmax_max_items: Positive = 200_000
    """softmax: a larger catalogue is stood in for by so many drawn items (sampled_softmax)."""
    log_q: bool | None = None
    """sampled_softmax: subtract the logarithm of the chance of being drawn (true where not
    given; Bengio and Senecal 2008, Yi et al. 2019)."""
    calibration: Annotated[float, Field(ge=0, le=1)] | None = None
    """sampled_bce: t of gBCE (Petrov and Macdonald 2023), which makes up for the negatives that
    were not drawn: 0 is plain cross-entropy (where not given), 1 is fully calibrated."""
    margin: Annotated[float, Field(ge=-1, le=1)] | None = None
    """ccl: negatives with a lower cosine cost nothing (0.4 where not given)."""
    negative_weight: Annotated[float, Field(gt=0)] | None = None
    """ccl: weight of the negatives' mean (20 where not given)."""
    positive_temperature: Annotated[float, Field(gt=0)] | None = None
    """bsl: temperature of the positives, in multiples of the negatives' (2 where not given)."""
    optimizer: DenseOptimizer = "adamw"
    """For all dense parameters; sparse id embeddings always use Adam on the rows of the batch."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Step size of the dense parameters. Where not given: 0.01 for softmax, 0.002 for objectives
    that draw negatives."""
    embedding_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Step size of the id embeddings (``learning_rate`` where not given)."""
    betas: tuple[Fraction, Fraction] | None = None
    """adam, adamw: decay of the two moments ([0.9, 0.99] where not given)."""
    schedule: Schedule = "linear"
    """linear: the step size rises over ``warmup_steps`` and falls to 0 at the end of
    ``num_epochs``. constant: it stays."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """linear: steps of the rise (20 where not given)."""
    sparse_optimizer: Literal["sparse_adam"] | None = None
    """sparse_adam with sparse embeddings (filled in); must be null with dense ones."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the dense optimizer; id embeddings have none."""
    mimic_weight: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """adaptive_mimic: weight of the loss that draws metadata embeddings to the id embeddings.
    dual_augmented: of the loss that draws augmented vectors to the other tower's output."""
    alignment_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss that draws the covariance of each category's item vectors to that of the
    largest category (Yu et al. 2021)."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When to stop before ``num_epochs``."""
    refit: bool = True
    """When validation has named the best epoch, train anew on train and validation together for
    as many epochs; that model is tested and saved."""
    precision: Precision = "auto"
    """Of the matrix products in training; auto is bfloat16 on a CPU that computes in it."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; null leaves PyTorch's own choice."""


class SegmentConfig(Section):
    """Where cold ends and head begins, by number of train interactions."""

    cold_max: Annotated[int, Field(ge=0)] = 5
    """Users and items with at most so many train interactions are cold."""
    head_share: Fraction = 0.2
    """The most active share of the others is head; the rest is tail."""


class EvaluationConfig(Section):
    """How rankings are judged."""

    metrics_k: Annotated[tuple[Positive, ...], Field(min_length=1)] = (5, 10, 20)
    """List lengths."""
    candidate_samples: Annotated[int, Field(ge=0)] = 500
    """Negatives a user in the sampled-candidate view; 0 leaves that view out."""
    baselines: tuple[BaselineName, ...] | None = None
    """What the model is held against, tuned on validation; popularity is always there. null takes
    the cheap ones: item_knn and ease. ials and bpr are from the package implicit."""
    baseline_memory_limit_mb: Positive = 2048
    """item_knn and ease take 8 bytes for each two items, and are left out where that is more."""
    memory_limit_mb: Positive = 512
    """Bound on the working memory of ranking, whatever the number of users and items."""
    validation_users: Positive | None = None
    """Judge epochs on a fixed random sample of so many validation users; null takes all."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    """Resamplings of users behind each confidence interval."""
    confidence: Fraction = 0.95
    """Level of the confidence intervals."""
    segments: SegmentConfig = SegmentConfig()
    """Where cold ends and head begins."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            tuple(sorted(set(self.metrics_k))) == self.metrics_k,
            f"'metrics_k' must rise and not repeat, got {list(self.metrics_k)}",
        )
        names = self.baselines or ()
        require(
            len(set(names)) == len(names),
            f"'baselines' must name each once, got {list(names)}",
        )
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The ranking metrics that validation and test produce, such as ``ndcg@10``."""
        return tuple(f"{metric}@{k}" for metric in RANKING_METRICS for k in self.metrics_k)


class DiagnosticsConfig(Section):
    """What the report looks into beyond the metrics."""

    report_path: Path = Path("artifacts/reports/recommendation_report.md")
    """Where the Markdown report goes; the HTML report goes beside it."""
    qualitative_users: Annotated[int, Field(ge=0)] = 5
    """Users whose history and recommendations are shown."""
    qualitative_k: Positive = 10
    """Recommendations shown for each."""
    item_sample_size: Annotated[int, Field(ge=2)] = 50
    """Items drawn for the category cohesion of neighbours and for the alignment of items."""
    user_sample_size: Annotated[int, Field(ge=2)] = 500
    """Users drawn for the alignment of users."""
    neighbor_k: Positive = 5
    """Neighbours of an item in the category cohesion."""
    feature_corr_sample_size: Annotated[int, Field(ge=100)] = 20_000
    """Random (user, item) pairs behind the feature correlations."""
    feature_corr_top_k: Positive = 20
    """Feature correlations shown."""


class ExperimentConfig(Section):
    """What a run is called, where it goes, and its seed."""

    name: str = "bookends"
    """MLflow experiment."""
    run_name: str | None = None
    """Name of the run and of its directory; null makes one from the model."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """The one seed behind initial weights, shuffling, negatives, samples and splits."""
    runs_dir: Path = Path("artifacts/runs")
    """Where run directories are made."""
    tracking: bool = True
    """Mirror the run to MLflow."""
    tracking_uri: str | None = None
    """MLflow store or server; null takes MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.run_name is None or re.fullmatch(r"\w[\w. -]{0,99}", self.run_name) is not None,
            "'run_name' must be 1 to 100 letters, digits, '_', '-', '.' and blanks, a letter or "
            f"digit first, got {self.run_name!r:.120}",
        )
        require(
            self.name.strip() != "" and len(self.name) <= 200,
            f"'name' must have 1 to 200 characters, got {self.name!r:.40}",
        )
        require(
            without_password(self.tracking_uri or "") == (self.tracking_uri or ""),
            "'tracking_uri' must hold no password, since settings are kept with the run; "
            "MLFLOW_TRACKING_URI in the environment may",
        )
        return self


class Config(Section):
    """Everything a run depends on, beside the data itself."""

    data: DataConfig = DataConfig()
    """From two files to a prepared data set."""
    model: ModelConfig = ModelConfig()
    """The two towers."""
    training: TrainingConfig = TrainingConfig()
    """How the towers learn."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How rankings are judged."""
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    """What the report looks into."""
    experiment: ExperimentConfig = ExperimentConfig()
    """Name, place and seed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        monitor = self.training.early_stopping.monitor
        require(
            monitor in self.evaluation.metric_names,
            "'training.early_stopping.monitor' must be one of the evaluated metrics "
            f"({', '.join(self.evaluation.metric_names)}), got '{monitor}'",
        )
        fill_objective(self.model, self.training)
        fill_optimizer(self.model, self.training)
        self._check_fusions()
        _check_recency(self.data, self.model)
        return self

    def _check_fusions(self) -> None:
        user, item = self.model.user_encoder, self.model.item_encoder
        fusions = {user.fusion, item.fusion}
        features = self.data.feature_params
        require(
            fusions == {"identity"}
            or bool(features.numeric_columns)
            or features.title
            or any(features.top_k.values()),
            "a fusion other than 'identity' needs metadata, but 'data.feature_params' has no "
            "'numeric_columns', 'title' is false, and every 'top_k' of a text field is 0",
        )
        mimics = "dual_augmented" in fusions or any(
            tower.fusion == "adaptive_mimic" and tower.id_embedding.type == "embedding"
            for tower in (user, item)
        )
        require(
            self.training.mimic_weight == 0 or mimics,
            "'training.mimic_weight' has a meaning only with a fusion 'dual_augmented', or "
            f"'adaptive_mimic' of a tower with ids, got {', '.join(sorted(fusions))}",
        )
        require(
            user.queries == 1 or "dual_augmented" not in fusions,
            "'model.user_encoder.queries' must be 1 with a fusion 'dual_augmented', whose vectors "
            f"mimic one output a user, got {user.queries}",
        )
        require(
            self.training.alignment_weight == 0 or features.category_top_k > 0,
            "'training.alignment_weight' needs categories, but "
            "'data.feature_params.category_top_k' is 0",
        )


_DRAWS = ("sampled_bce", "bpr", "sampled_softmax", "ccl", "bsl")
_SHARES = ("sampled_bce", "sampled_softmax", "ccl", "bsl")
_MEANINGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "negative_sampling": (_DRAWS, "uniform"),
    "log_q": (("sampled_softmax",), True),
    "calibration": (("sampled_bce",), 0.0),
    "margin": (("ccl",), 0.4),
    "negative_weight": (("ccl",), 20.0),
    "positive_temperature": (("bsl",), 2.0),
}
"""Settings that only some objectives give a meaning, and what they are where not given."""


def fill_objective(model: ModelConfig, training: TrainingConfig) -> None:
    """Fill in what depends on the objective, and refuse what it gives no meaning."""
    fill = object.__setattr__  # frozen for users; derived settings are filled in here
    name = training.objective
    if name is None:
        name = "softmax" if training.negatives_per_positive is None else "sampled_bce"
        fill(training, "objective", name)
    for setting, (objectives, default) in _MEANINGS.items():
        given = getattr(training, setting)
        if name in objectives:
            fill(training, setting, default if given is None else given)
        else:
            require(
                given is None,
                f"'training.{setting}' has a meaning only with objective "
                f"{' or '.join(objectives)}, got '{name}'",
            )
    _fill_negatives(training, name)
    _fill_examples(model, training, name)
    _fill_temperature(model, name)


def _fill_negatives(training: TrainingConfig, name: ObjectiveName) -> None:
    fill, sampling = object.__setattr__, training.negative_sampling
    in_batch = sampling == "in_batch"
    require(
        not in_batch or name == "sampled_softmax",
        f"'training.negative_sampling: in_batch' needs objective 'sampled_softmax', got '{name}'",
    )
    require(
        training.shared_negatives is None or (name in _SHARES and not in_batch),
        "'training.shared_negatives' has a meaning only with objective "
        f"{' or '.join(_SHARES)} and negatives that are drawn, got '{name}'"
        + (" in_batch" if in_batch else ""),
    )
    draws = name in _DRAWS and not in_batch and training.shared_negatives is None
    if draws:
        fill(training, "negatives_per_positive", training.negatives_per_positive or 5)
    else:
        why = "in_batch" if in_batch else f"'{name}'"
        if training.shared_negatives is not None:
            why = "'training.shared_negatives'"
        require(
            training.negatives_per_positive is None,
            "'training.negatives_per_positive' has a meaning only where negatives are drawn for "
            f"each positive, got {why}",
        )
    if sampling == "popularity":
        alpha = training.popularity_alpha
        fill(training, "popularity_alpha", 0.75 if alpha is None else alpha)
    else:
        require(
            training.popularity_alpha is None,
            "'training.popularity_alpha' has a meaning only with negative_sampling "
            f"'popularity', got '{sampling or 'none'}'",
        )


def _check_recency(data: DataConfig, model: ModelConfig) -> None:
    require(
        model.user_encoder.history.recency != "time" or data.split.order == "timestamp",
        "'model.user_encoder.history.recency: time' needs 'data.split.order: timestamp', "
        "got 'rows', which says nothing of days",
    )


def _fill_examples(model: ModelConfig, training: TrainingConfig, name: ObjectiveName) -> None:
    fill = object.__setattr__
    has_history = model.user_encoder.history.pooling != "none"
    if training.examples is None:
        as_histories = has_history and name == "softmax"
        fill(training, "examples", "histories" if as_histories else "pairs")
    ids = model.user_encoder.id_embedding
    if ids.type is None:
        fill(ids, "type", "none" if training.examples == "histories" else "embedding")
    if training.examples == "histories":
        require(
            has_history,
            "'training.examples: histories' needs 'model.user_encoder.history.pooling' other than "
            "'none'",
        )
        fill(training, "history_split", training.history_split or HistorySplitConfig())
        _fill_after(model, training)
    else:
        require(
            training.history_split is None,
            "'training.history_split' has a meaning only with examples 'histories', got 'pairs'",
        )
    default_size = 256 if training.examples == "histories" else 1024
    fill(training, "batch_size", training.batch_size or default_size)


def _fill_after(model: ModelConfig, training: TrainingConfig) -> None:
    """A sequence has one end, so that nothing can be input on both sides of the targets."""
    split = training.history_split
    if split is None or model.user_encoder.history.pooling != "sequence" or not split.after:
        return
    require(
        "after" not in split.model_fields_set,
        "'training.history_split.after' must be false with 'model.user_encoder.history.pooling: "
        "sequence', whose last item is the most recent, got true",
    )
    object.__setattr__(split, "after", False)


def _fill_temperature(model: ModelConfig, name: ObjectiveName) -> None:
    fill = object.__setattr__
    if model.similarity != "cosine":
        require(name != "ccl", "'training.objective: ccl' needs similarity 'cosine', got 'dot'")
        return
    if name == "ccl":  # its margin is a cosine's
        for setting, only in (("temperature", 1.0), ("learn_temperature", False)):
            given = getattr(model, setting)
            require(
                given in (None, only),
                f"'model.{setting}' has no meaning with objective 'ccl', got {given}",
            )
        fill(model, "temperature", 1.0)
    learns, said = name in ("sampled_bce", "bpr"), model.learn_temperature
    fill(model, "temperature", model.temperature or 0.12)
    fill(model, "learn_temperature", learns if said is None else said)


def fill_optimizer(model: ModelConfig, training: TrainingConfig) -> None:
    """Fill in what depends on the optimizers, and refuse what they give no meaning."""
    fill = object.__setattr__
    user, item = model.user_encoder, model.item_encoder
    towers = (user, item)
    tables = [tower for tower in towers if tower.id_embedding.type == "embedding"]
    tables += [tower for tower in towers if tower.fusion == "dual_augmented"]
    if user.history.pooling != "none" and user.history.table == "own":
        tables.append(item)  # its settings are those of the history's own table
    is_sparse = any(tower.id_embedding.params.sparse for tower in tables)
    if is_sparse:
        fill(training, "sparse_optimizer", "sparse_adam")
    else:
        require(
            training.sparse_optimizer is None,
            "'training.sparse_optimizer: sparse_adam' needs 'sparse: true' in an id embedding, "
            "got false",
        )
    if training.learning_rate is None:
        fill(training, "learning_rate", 0.01 if training.objective == "softmax" else 0.002)
    if training.embedding_learning_rate is None:
        fill(training, "embedding_learning_rate", training.learning_rate)
    if training.optimizer == "sgd":
        require(training.betas is None, "'training.betas' has no meaning with optimizer 'sgd'")
    else:
        fill(training, "betas", training.betas or (0.9, 0.99))
    if training.schedule == "linear":
        steps = training.warmup_steps
        fill(training, "warmup_steps", 20 if steps is None else steps)
    else:
        require(
            training.warmup_steps is None,
            "'training.warmup_steps' has a meaning only with schedule 'linear', got 'constant'",
        )
