"""Settings of ``data``: from files to a prepared data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from recsys.addresses import INPUT_SCHEMES, copy_path, without_password
from recsys.config.section import Count, Fraction, Positive, Section, fill, require, settle

BagKind = Literal["top_k", "hashed"]
UserAggregation = Literal["mean", "sum", "max", "time_decayed_mean"]
SplitStrategy = Literal[
    "leave_latest_out", "leave_random_out", "global_time", "random", "cold_items", "given"
]
Order = Literal["timestamp", "rows"]
BadRows = Literal["error", "drop"]
BookField = Literal[
    "item_id", "title", "author", "categories", "average_rating", "rating_number", "price"
]
InteractionField = Literal["user_id", "item_id", "rating", "timestamp"]
SHARED_SPLITS = ("global_time", "random", "cold_items")
"""Splits that hold out a share."""
TIMED_SPLITS = ("leave_latest_out", "global_time")
"""Splits that hold out what comes last."""
DRAWN_SPLITS = ("leave_random_out", "random", "cold_items")
"""Splits that draw what they hold out."""
DEFAULT_NUMERIC_COLUMNS = ("average_rating", "rating_number", "price")


def _input_path(value: object) -> Path | str:
    """A path, or an address as it is."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a path or an address, got {value!r:.80}")
    if "://" not in value:
        return Path(value)
    scheme, _, rest = value.partition("://")
    if scheme == "file":
        return Path(rest)
    shown = without_password(value)
    require(
        scheme in INPUT_SCHEMES,
        f"must be a path or an address that begins with {', '.join(INPUT_SCHEMES)}, got '{shown}'",
    )
    require(
        shown == value,
        "must hold no password: it would be kept with every run; the store's own environment "
        f"variables or files give it (docs/data.md), got '{scheme}://...'",
    )
    host, _, path = rest.partition("?")[0].partition("/")
    require(
        host != "" and path.strip("/") != "" and ".." not in path.split("/"),
        f"must name a file or folder behind its bucket or host, without '..', got '{shown}'",
    )
    return value


InputPath = Annotated[Path | str, PlainValidator(_input_path)]
"""A path on this machine, or an address (str)."""


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
        fill(self, strategy=strategy)
        for part in ("validation", "test"):
            share, count = f"{part}_fraction", f"n_{part}_items"
            settle(
                self,
                strategy == "cold_items",
                f"with strategy 'cold_items', got '{strategy}'",
                {count: None},
            )
            require(
                getattr(self, count) is None or getattr(self, share) is None,
                f"only one of '{count}' and '{share}' can be given",
            )
            settle(
                self,
                strategy in SHARED_SPLITS or (strategy == "given" and part == "validation"),
                f"with strategy 'global_time', 'random' or 'cold_items', got '{strategy}'",
                {share: None if strategy == "given" or getattr(self, count) else 0.1},
            )
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
    """What the towers know about items and users beside their ids."""

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
    """top_k: one column for each of the most frequent values among train items.
    hashed: every value falls in one of as many buckets; some collide."""
    min_count: Positive = 2
    """Leave out values (hashed: buckets) that fewer train items have."""
    idf: bool = True
    """A value weighs log(train items / train items that have it), and the values of a field in an
    item are scaled to length 1; false: every value weighs 1."""
    title: bool = True
    """Word and character statistics of the title."""
    log_skewness: float | None = 2.0
    """Take log(1 + x) of a non-negative numeric column whose skewness among train items is above
    this; null never does."""
    user_aggregation: UserAggregation = "mean"
    """How the features of a user's train items become the user's own."""
    half_life_days: Annotated[float, Field(gt=0)] | None = None
    """time_decayed_mean: after how many days an interaction counts half (90 where not given)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = self.numeric_columns
        repeated = sorted({c for c in columns if columns.count(c) > 1})
        require(not repeated, f"'numeric_columns' must name a column once, got {repeated} twice")
        settle(
            self,
            self.user_aggregation == "time_decayed_mean",
            f"with user_aggregation 'time_decayed_mean', got '{self.user_aggregation}'",
            {"half_life_days": 90.0},
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

    books_path: InputPath | None = Path("data/sample/books.csv")
    """One row an item: .csv, .csv.gz or .parquet, or a folder of .parquet; null where items are
    known by their ids alone. As all inputs a path or an address (s3://, gs://, abfs://, hdfs://),
    which is copied to ``cache_dir`` where it is new or has changed."""
    interactions_path: InputPath = Path("data/sample/users.csv")
    """One row an interaction: .csv, .csv.gz or .parquet; or one line a user, "user item item ...":
    .txt or .txt.gz. Where ``test_path`` is given, the train interactions."""
    validation_path: InputPath | None = None
    """Ready-made split: the interactions to validate on; null cuts them at random from train."""
    test_path: InputPath | None = None
    """Ready-made split: the interactions to test on."""
    cache_dir: Path = Path("artifacts/cache")
    """Where prepared data sets are kept, each under the fingerprint of its input and settings."""
    book_columns: dict[BookField, str] = Field(default={})
    """The file's own names for our columns, for example {item_id: parent_asin}."""
    interaction_columns: dict[InteractionField, str] = Field(default={})
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
    """Leave out items with fewer interactions, until nothing changes (k-core); 10 where not given,
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
        self.split.fill(self.split.strategy or "leave_latest_out")
        fill(self, min_user_interactions=5, min_item_interactions=10)

    def _check_ready_made_split(self) -> None:
        require(
            self.split.strategy in (None, "given"),
            "with a 'test_path' the split is as given: 'split.strategy' must be null or 'given', "
            f"got '{self.split.strategy}'",
        )
        self.split.fill("given")
        settle(
            self.split,
            self.validation_path is None,
            "without a 'validation_path'",
            {"validation_fraction": 0.1},
            prefix="split.",
        )
        paths = [p for p in (self.interactions_path, self.validation_path, self.test_path) if p]
        require(
            len(set(paths)) == len(paths),
            "'interactions_path', 'validation_path' and 'test_path' must be different files",
        )
        fill(self, min_user_interactions=1, min_item_interactions=1)
        kept = (self.min_user_interactions, self.min_item_interactions, self.min_rating)
        require(
            kept == (1, 1, None),
            "a ready-made split ('test_path') is not filtered: 'min_user_interactions' and "
            "'min_item_interactions' must be null or 1 and 'min_rating' null, got "
            f"{kept[0]}, {kept[1]} and {'null' if kept[2] is None else f'{kept[2]:g}'}",
        )

    @property
    def sources(self) -> dict[str, Path | str]:
        """What is read, as given, by "books", "interactions", "validation" and "test"."""
        given = {
            "books": self.books_path,
            "interactions": self.interactions_path,
            "validation": self.validation_path,
            "test": self.test_path,
        }
        return {name: place for name, place in given.items() if place is not None}

    @property
    def source_paths(self) -> dict[str, Path]:
        """The files that are read, in the same order: of an address its copy."""
        return {
            name: copy_path(place, self.cache_dir) if isinstance(place, str) else place
            for name, place in self.sources.items()
        }
