"""The configuration tree: every setting, its default, and what must hold of it.

Defaults live here and nowhere else; a YAML file holds differences. A setting that only some choice
of another setting gives a meaning (``temperature`` with ``cosine``) is ``None`` until that choice
is made, and refused where it would have no effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.addresses import without_password

BagKind = Literal["top_k", "hashed"]
BagEncoding = Literal["one_hot", "embedding"]
UserAggregate = Literal["mean", "sum", "max", "time_decayed_mean"]
SplitStrategy = Literal["leave_latest_out", "global_time", "random"]
Order = Literal["timestamp", "rows"]
BadRows = Literal["error", "drop"]
EncoderKind = Literal["mlp", "linear", "none"]
FusionName = Literal["identity", "sum", "concat", "adaptive_mimic"]
Similarity = Literal["cosine", "dot"]
Device = Literal["cpu", "cuda", "auto"]
Precision = Literal["auto", "float32", "bfloat16"]
NegativeSampling = Literal["uniform", "popularity"]
DenseOptimizer = Literal["adam", "adamw", "sgd"]
BookField = Literal[
    "item_id", "title", "author", "categories", "average_rating", "rating_number", "price"
]
InteractionField = Literal["user_id", "item_id", "rating", "timestamp"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
RANKING_METRICS = ("recall", "precision", "ndcg", "hit_rate", "map", "mrr")


class Section(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        revalidate_instances="always",  # defaults are copied, so filling one in touches no other
    )


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError(message)`` unless the condition holds; pydantic adds the place."""
    if not condition:
        raise ValueError(message)


class SplitConfig(Section):
    """How train, validation and test are told apart."""

    strategy: SplitStrategy = "leave_latest_out"
    """leave_latest_out: each user's latest interaction is test, the one before validation.
    global_time: a cut in time for all users. random: a share of each user's interactions."""
    order: Order = "timestamp"
    """What says which interaction came first: the timestamp column, or the order of the rows."""
    validation_fraction: Fraction | None = None
    """Share of interactions for validation (global_time and random; 0.1 where not given)."""
    test_fraction: Fraction | None = None
    """Share of interactions for test (global_time and random; 0.1 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        fractions = (self.validation_fraction, self.test_fraction)
        if self.strategy == "leave_latest_out":
            require(
                fractions == (None, None),
                "'validation_fraction' and 'test_fraction' have a meaning only with strategy "
                "'global_time' or 'random', got 'leave_latest_out'",
            )
        else:
            filled = tuple(0.1 if fraction is None else fraction for fraction in fractions)
            object.__setattr__(self, "validation_fraction", filled[0])
            object.__setattr__(self, "test_fraction", filled[1])
            require(
                sum(filled) < 1,
                f"'validation_fraction' + 'test_fraction' must be below 1, got {sum(filled):g}",
            )
        return self


class BagConfig(Section):
    """Which columns a multi-valued text field (categories, authors) becomes."""

    kind: BagKind = "top_k"
    """top_k: one column for each of the most frequent values among train books.
    hashed: every value falls in one of ``size`` buckets; nothing is left out, some collide."""
    size: Annotated[int, Field(ge=0)] = 300
    """How many values (top_k) or buckets (hashed); 0 leaves the field out."""


class FeatureConfig(Section):
    """What the towers know about books and readers beside their ids."""

    title: bool = True
    """Word and character statistics of the title."""
    log_skewness: float | None = 2.0
    """Take log(1 + x) of a non-negative numeric column whose skewness among train books is above
    this; null never does."""
    categories: BagConfig = BagConfig()
    """Columns for the '|'-separated categories."""
    authors: BagConfig = BagConfig()
    """Columns for the ','-separated authors."""
    user_aggregate: UserAggregate = "mean"
    """How the features of a reader's train books become the reader's own."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """time_decayed_mean: after how many days an interaction counts half (90 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.user_aggregate == "time_decayed_mean":
            object.__setattr__(self, "half_life_days", self.half_life_days or 90.0)
        else:
            require(
                self.half_life_days is None,
                "'half_life_days' has a meaning only with user_aggregate 'time_decayed_mean', "
                f"got '{self.user_aggregate}'",
            )
        return self


class DataConfig(Section):
    """From two files to a prepared data set."""

    books_path: Path = Path("data/sample/books.csv")
    """One row a book: .csv, .csv.gz or .parquet."""
    interactions_path: Path = Path("data/sample/users.csv")
    """One row an interaction: .csv, .csv.gz or .parquet."""
    cache_dir: Path = Path("artifacts/cache")
    """Where prepared data sets are kept, each under the fingerprint of its input and settings."""
    book_columns: dict[BookField, str] = {}
    """The file's own names for our columns, for example {item_id: parent_asin}."""
    interaction_columns: dict[InteractionField, str] = {}
    """The same for the interactions."""
    books_limit: Positive | None = None
    """Read only the first so many books."""
    interactions_limit: Positive | None = None
    """Read only the first so many interactions."""
    bad_rows: BadRows = "error"
    """A row that cannot be read ends the run (error), or is left out and counted (drop)."""
    min_rating: float | None = None
    """Leave out interactions rated lower."""
    min_user_interactions: Positive = 5
    """Leave out readers with fewer interactions, until nothing changes (k-core)."""
    min_item_interactions: Positive = 10
    """Leave out books with fewer interactions, until nothing changes (k-core)."""
    numeric_columns: tuple[str, ...] = ("average_rating", "rating_number", "price")
    """Numeric columns of the books file to use as features."""
    split: SplitConfig = SplitConfig()
    """How train, validation and test are told apart."""
    features: FeatureConfig = FeatureConfig()
    """What the towers know beside ids."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            self.features.user_aggregate != "time_decayed_mean" or self.split.order == "timestamp",
            "'features.user_aggregate: time_decayed_mean' needs 'split.order: timestamp', "
            "got 'rows', which says nothing of days",
        )
        repeated = sorted({c for c in self.numeric_columns if self.numeric_columns.count(c) > 1})
        require(not repeated, f"'numeric_columns' must name a column once, got {repeated} twice")
        return self


class BagEncoderConfig(Section):
    """How a bag of columns enters the feature encoder."""

    encoding: BagEncoding = "one_hot"
    """one_hot: each column has its own weights in the first layer.
    embedding: the mean of learned embeddings of the columns joins the dense features."""
    dim: Positive | None = None
    """embedding: dimension of the learned embeddings (32 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoding == "embedding":
            object.__setattr__(self, "dim", self.dim or 32)
        else:
            require(self.dim is None, "'dim' has a meaning only with encoding 'embedding'")
        return self


class EncoderConfig(Section):
    """The feature encoder: metadata in, ``embedding_dim`` numbers out."""

    kind: EncoderKind = "mlp"
    """mlp: hidden layers with ReLU and dropout. linear: one layer. none: no metadata at all."""
    hidden_dims: tuple[Positive, ...] | None = None
    """mlp: widths of the hidden layers ([192] where not given)."""
    dropout: Probability | None = None
    """mlp: share of hidden units left out in training (0.1 where not given)."""
    categories: BagEncoderConfig = BagEncoderConfig()
    """How categories enter."""
    authors: BagEncoderConfig = BagEncoderConfig()
    """How authors enter."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "mlp":
            dims = (192,) if self.hidden_dims is None else self.hidden_dims
            require(dims != (), "'hidden_dims' must name a layer; kind 'linear' has none")
            object.__setattr__(self, "hidden_dims", dims)
            object.__setattr__(self, "dropout", 0.1 if self.dropout is None else self.dropout)
        else:
            for name in ("hidden_dims", "dropout"):
                require(
                    getattr(self, name) is None,
                    f"'{name}' has a meaning only with kind 'mlp', got '{self.kind}'",
                )
        return self


class TowerConfig(Section):
    """One tower."""

    fusion: FusionName = "adaptive_mimic"
    """How the id embedding and the metadata embedding become one vector. identity: the id alone
    (matrix factorisation). sum. concat: a linear layer over both. adaptive_mimic: a learned gate
    for each dimension, closed for an id never seen in training."""


class ModelConfig(Section):
    """The two towers and how their vectors meet."""

    embedding_dim: Positive = 96
    """Length of id embeddings, metadata embeddings and tower vectors."""
    sparse: bool = True
    """Sparse gradients for the id embeddings: an epoch touches only the rows it used."""
    max_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale id embeddings back to this length when longer; needs sparse: false."""
    id_dropout: Probability = 0.1
    """Share of ids treated as unknown in training, so that metadata alone becomes meaningful."""
    user_tower: TowerConfig = TowerConfig()
    """The readers' tower."""
    item_tower: TowerConfig = TowerConfig()
    """The books' tower."""
    encoder: EncoderConfig = EncoderConfig()
    """The feature encoder of each tower whose fusion uses metadata."""
    similarity: Similarity = "cosine"
    """cosine (divided by a temperature) or dot."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """cosine: what the cosine is divided by (0.1 where not given); where learned, its start."""
    learn_temperature: bool | None = None
    """cosine: learn the temperature (true where not given) or keep it fixed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            not (self.sparse and self.max_norm is not None),
            f"'max_norm' needs 'sparse: false', got max_norm {self.max_norm} with sparse: true",
        )
        for name in ("user_tower", "item_tower"):
            fusion = getattr(self, name).fusion
            require(
                fusion == "identity" or self.encoder.kind != "none",
                f"'{name}.fusion' must be 'identity' where 'encoder.kind' is 'none': "
                f"'{fusion}' has no metadata to fuse",
            )
        if self.similarity == "cosine":
            object.__setattr__(self, "temperature", self.temperature or 0.1)
            learn = True if self.learn_temperature is None else self.learn_temperature
            object.__setattr__(self, "learn_temperature", learn)
        else:
            for name in ("temperature", "learn_temperature"):
                require(
                    getattr(self, name) is None,
                    f"'{name}' has a meaning only with similarity 'cosine', got 'dot'",
                )
        return self


class EarlyStoppingConfig(Section):
    """When training ends before ``num_epochs``."""

    monitor: str = "ndcg@10"
    """Validation metric to watch; higher is better."""
    patience: Positive | None = 3
    """Stop after so many epochs without a better value; null never stops early."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """How much better a value must be to count."""


class TrainingConfig(Section):
    """How the towers learn."""

    num_epochs: Positive = 20
    """At most so many passes over the train interactions."""
    batch_size: Positive = 1024
    """Positives a step."""
    negatives_per_positive: Positive = 5
    """Books the reader is not known to have read, drawn for each positive."""
    negative_sampling: NegativeSampling = "uniform"
    """uniform over the train books, or by popularity to the power ``popularity_alpha``."""
    popularity_alpha: Annotated[float, Field(ge=0)] | None = None
    """popularity: the exponent (0.75 where not given)."""
    optimizer: DenseOptimizer = "adam"
    """For all dense parameters; sparse id embeddings always use Adam on the rows of the batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Step size of the dense parameters."""
    embedding_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Step size of the id embeddings (``learning_rate`` where not given)."""
    sparse_optimizer: Literal["sparse_adam"] | None = None
    """sparse_adam with sparse embeddings (filled in); must be null with dense ones."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the dense optimizer."""
    mimic_weight: Annotated[float, Field(ge=0)] = 0.0
    """adaptive_mimic: weight of the loss that draws metadata embeddings to the id embeddings."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    """When to stop before ``num_epochs``."""
    device: Device = "auto"
    """auto uses a CUDA device where there is one."""
    precision: Precision = "auto"
    """Of the towers' matrix products in training; auto is bfloat16 on a CPU that computes in it."""
    num_threads: Positive | None = None
    """CPU threads; null leaves PyTorch's own choice."""


class SegmentConfig(Section):
    """Where cold ends and head begins, by number of train interactions."""

    cold_max: Annotated[int, Field(ge=0)] = 5
    """Readers and books with at most so many train interactions are cold."""
    head_share: Fraction = 0.2
    """The most active share of the others is head; the rest is tail."""


class EvaluationConfig(Section):
    """How rankings are judged."""

    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = (5, 10, 20)
    """List lengths."""
    candidate_samples: Annotated[int, Field(ge=0)] = 500
    """Negatives a reader in the sampled-candidate view; 0 leaves that view out."""
    memory_limit_mb: Positive = 512
    """Bound on the working memory of ranking, whatever the number of readers and books."""
    validation_users: Positive | None = None
    """Judge epochs on a fixed random sample of so many validation readers; null takes all."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    """Resamplings of readers behind each confidence interval."""
    confidence: Fraction = 0.95
    """Level of the confidence intervals."""
    segments: SegmentConfig = SegmentConfig()
    """Where cold ends and head begins."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(
            tuple(sorted(set(self.ks))) == self.ks,
            f"'ks' must rise and not repeat, got {list(self.ks)}",
        )
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The ranking metrics that validation and test produce, such as ``ndcg@10``."""
        return tuple(f"{metric}@{k}" for metric in RANKING_METRICS for k in self.ks)


class DiagnosticsConfig(Section):
    """What the report looks into beyond the metrics."""

    report_path: Path = Path("artifacts/reports/recommendation_report.md")
    """Where the Markdown report goes; the HTML report goes beside it."""
    qualitative_users: Annotated[int, Field(ge=0)] = 5
    """Readers whose history and recommendations are shown."""
    qualitative_k: Positive = 10
    """Recommendations shown for each."""
    neighbours: Positive = 10
    """Neighbours a book in the category cohesion."""
    top_features: Positive = 15
    """Feature correlations shown."""
    correlation_pairs: Annotated[int, Field(ge=100)] = 100_000
    """Random (reader, book) pairs behind the feature correlations."""


class ExperimentConfig(Section):
    """What a run is called, where it goes, and its seed."""

    name: str = "bookends"
    """MLflow experiment."""
    run_name: Annotated[str, Field(pattern=r"^\w[\w. -]*$")] | None = None
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
        training, monitor = self.training, self.training.early_stopping.monitor
        require(
            monitor in self.evaluation.metric_names,
            "'training.early_stopping.monitor' must be one of the evaluated metrics "
            f"({', '.join(self.evaluation.metric_names)}), got '{monitor}'",
        )
        fill = object.__setattr__  # frozen for users; derived settings are filled in here
        if self.model.sparse:
            fill(training, "sparse_optimizer", "sparse_adam")
        else:
            require(
                training.sparse_optimizer is None,
                "'training.sparse_optimizer: sparse_adam' needs 'model.sparse: true', got false",
            )
        if training.embedding_learning_rate is None:
            fill(training, "embedding_learning_rate", training.learning_rate)
        if training.negative_sampling == "popularity":
            alpha = training.popularity_alpha
            fill(training, "popularity_alpha", 0.75 if alpha is None else alpha)
        else:
            require(
                training.popularity_alpha is None,
                "'training.popularity_alpha' has a meaning only with negative_sampling "
                "'popularity', got 'uniform'",
            )
        fusions = {self.model.user_tower.fusion, self.model.item_tower.fusion}
        features = self.data.features
        require(
            fusions == {"identity"}
            or bool(self.data.numeric_columns)
            or features.title
            or features.categories.size + features.authors.size > 0,
            "a fusion other than 'identity' needs metadata, but 'data.numeric_columns' is empty, "
            "'data.features.title' is false, and categories and authors have size 0",
        )
        require(
            training.mimic_weight == 0 or "adaptive_mimic" in fusions,
            "'training.mimic_weight' has a meaning only with a fusion 'adaptive_mimic', "
            f"got {', '.join(sorted(fusions))}",
        )
        return self
