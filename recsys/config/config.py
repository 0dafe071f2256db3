"""The whole tree of settings, and what must hold between its parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from recsys.addresses import without_password
from recsys.config.data import DataConfig
from recsys.config.derived import (
    check_recency,
    fill_by_split,
    fill_objective,
    fill_optimizer,
)
from recsys.config.evaluation import AMONG_NEW, DiagnosticsConfig, EvaluationConfig
from recsys.config.model import ModelConfig
from recsys.config.section import Section, require
from recsys.config.training import TrainingConfig


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
    tags: dict[str, str] = Field(default={})
    """MLflow tags of the run, for example {team: search}; names of letters, digits, '_', '-', '.'
    and '/', none of which begins with "bookends." or "mlflow."."""
    tracking: bool = True
    """Mirror the run to MLflow."""
    tracking_uri: str | None = None
    """MLflow store or server; null takes MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""
    system_metrics: bool = False
    """Log the use of processor, memory, disk and network to MLflow while the run goes on, every 10
    seconds or as MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says; of NVIDIA GPUs where the package
    nvidia-ml-py is installed."""

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
        for tag in self.tags:
            require(
                re.fullmatch(r"(?!(bookends|mlflow)\.)\w[\w./-]{0,99}", tag) is not None,
                "'tags' must have names of 1 to 100 letters, digits, '_', '-', '.' and '/', a "
                "letter or digit first, which do not begin with 'bookends.' or 'mlflow.', got "
                f"{tag!r:.120}",
            )
        require(
            self.tracking or not self.system_metrics,
            "'system_metrics' has an effect only with 'tracking'",
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
    """How rankings are measured."""
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    """What the report looks into."""
    experiment: ExperimentConfig = ExperimentConfig()
    """Name, place and seed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        fill_by_split(self.data, self.model, self.training, self.evaluation)
        require(
            self.monitor in self.metric_names,
            "'training.early_stopping.monitor' must be one of the evaluated metrics "
            f"({', '.join(self.metric_names)}), got '{self.monitor}'",
        )
        fill_objective(self.model, self.training)
        fill_optimizer(self.model, self.training)
        self._check_fusions()
        check_recency(self.data, self.model)
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The ranking metrics that validation and test produce, such as ``ndcg@10``.

        Where whole items are held out, those of new items alone come first.
        """
        names = self.evaluation.metric_names
        if self.data.split.strategy != "cold_items":
            return names
        return (*(AMONG_NEW + name for name in names), *names)

    @property
    def monitor(self) -> str:
        """The validation metric that training watches."""
        monitor = self.training.early_stopping.monitor
        assert monitor is not None
        return monitor

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
