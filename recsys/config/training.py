"""Settings of ``training``: how the towers learn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys.config.section import Fraction, Positive, Section, require, settle

ObjectiveName = Literal["sampled_bce", "bpr", "sampled_softmax", "softmax", "ccl", "bsl"]
Examples = Literal["pairs", "histories"]
Targets = Literal["random", "next"]
Schedule = Literal["constant", "linear"]
Precision = Literal["auto", "float32", "bfloat16"]
NegativeSampling = Literal["uniform", "popularity", "in_batch"]
DenseOptimizer = Literal["adam", "adamw", "sgd"]


class EarlyStoppingConfig(Section):
    """When training ends before ``num_epochs``."""

    monitor: str | None = None
    """Validation metric to watch, which reports and comparisons begin with; higher is better.
    null is ndcg@10 (of the longest lists where 10 is none of metrics_k); with split 'cold_items'
    new_ndcg@10, of lists of new items alone: among all items NDCG rises with whatever puts new
    items high."""
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
    repeats: Positive = 1
    """Splits of each user an epoch, for epochs of more steps where users are few and their
    histories long."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_random = self.targets == "random"
        settle(self, is_random, "with targets 'random', got 'next'", {"input_share": (0.3, 0.9)})
        settle(
            self, not is_random, "with targets 'next', got 'random'", {"window": 2, "after": True}
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
    as many epochs; that model is tested and saved. It knows the users that validation alone has,
    too, and the items unless the split holds out what comes last."""
    precision: Precision = "auto"
    """Of the matrix products in training; auto is bfloat16 on a CPU that computes in it."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; null leaves PyTorch's choice. They sleep while they wait (OMP_WAIT_POLICY)."""
