"""What a run was and gave: the one value that reports and trackers are made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

from pydantic import ConfigDict, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from recsys.artifacts import replacement
from recsys.errors import ArtifactError, first_problem
from recsys.evaluation.tables import Table, plain_cell

RunStatus = Literal["running", "finished", "interrupted", "failed"]
FORMAT = 1
RECORD_FILE = "record.json"
TABLES_DIR = "tables"
PER_USER_FILE = "per_user.parquet"
"""Metrics of each test user."""
HELD_OUT_FILE = "held_out.parquet"
"""The test interactions: user_id, item_id."""


class Value(NamedTuple):
    """A mean and its confidence interval; None where not known."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class EpochRecord:
    """A finished epoch; None for what was no number.

    Attributes:
        number: from 1.
        train_loss: mean loss.
        parts: the loss by part.
        validation: metrics by name.
        is_best: whether the monitored metric was the best so far.
        seconds: wall time.
    """

    number: int
    train_loss: float | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    validation: dict[str, float | None] = field(default_factory=dict)
    is_best: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class ScoresRecord:
    """Means of a system's metrics, and the intervals of some; None for what was no number."""

    means: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def value(self, metric: str) -> Value:
        """A mean with its interval; None for what is not known."""
        return Value(self.means.get(metric), *self.intervals.get(metric, (None, None)))


@dataclass(frozen=True)
class EvaluationRecord:
    """What was held out, why nothing was judged, who was judged, and what the systems reached."""

    split: str
    skipped: str | None = None
    n_users: int = 0
    model: ScoresRecord = field(default_factory=ScoresRecord)
    baselines: dict[str, ScoresRecord] = field(default_factory=dict)

    @property
    def systems(self) -> dict[str, ScoresRecord]:
        """The model, then the baselines."""
        return {"model": self.model} | self.baselines


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunRecord:
    """Everything about a run but its tables and per-user values, as plain JSON values.

    Whatever is given becomes what JSON gives back (tuples lists, paths and NumPy scalars text and
    numbers, NaN and infinities None), so that a record read again equals the one written.

    Attributes:
        run_name: name of the run directory.
        status: "running", "finished", "interrupted" or "failed".
        created: start of the run, ISO 8601, UTC.
        config: the resolved settings, nested.
        dataset: fingerprint, sources {path: sha256}, n_users, n_items, n_warm_users, n_warm_items,
            interactions in train, validation and test, most_held_out {validation, test} of a user,
            and split {strategy, order, skipped}.
        filter_steps: {name, users, items, interactions} left after each step, in order.
        model_size: {parameters, bytes}.
        history: the finished epochs.
        best_epoch: number of the epoch whose weights were kept, the last where there is no
            validation; None before the first.
        stop_reason: why training ended.
        refit: {epochs, positives, seconds} of the training on train and validation together that
            made the tested model; None where there was none.
        evaluation: None where the run did not come so far.
        oracle: expected metrics of the best possible ranking, where the world is known.
        tables: names of the tables, in the order in which they are shown.
        environment: python, platform, cpu_count, packages {name: version}, git_commit, command, and
            precision of the matrix products in training.
        seconds: wall time of the whole run.
        peak_memory_mb: largest resident memory of the process, in MiB.
        error: one line, where the run failed.
    """

    run_name: str
    status: RunStatus
    created: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    filter_steps: list[dict[str, Any]] = field(default_factory=list)
    model_size: dict[str, int] = field(default_factory=dict)
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int | None = None
    stop_reason: str = ""
    refit: dict[str, int | float] | None = None
    evaluation: EvaluationRecord | None = None
    oracle: dict[str, float | None] | None = None
    tables: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    error: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> Any:
        return plain(value)

    def setting(self, name: str, default: Any = None) -> Any:
        """The setting of a dotted name; the default where the record does not hold it."""
        value: Any = self.config
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value

    @property
    def split(self) -> dict[str, Any]:
        """How the data were split: {strategy, order, skipped}; empty where it is not told."""
        return self.dataset.get("split") or {}

    @property
    def sources(self) -> dict[str, str]:
        """SHA-256 of each file that was read, by its path; empty where it is not told."""
        return self.dataset.get("sources") or {}

    @property
    def commit(self) -> str | None:
        """That the run was made by, ``-dirty`` at the end where files differed."""
        return self.environment.get("git_commit")

    @property
    def confidence(self) -> float:
        """Of the intervals, between 0 and 1."""
        return float(self.setting("evaluation.confidence", 0.95))

    @property
    def judged(self) -> EvaluationRecord | None:
        """The evaluation; None where there is none or it was skipped."""
        return None if self.evaluation is None or self.evaluation.skipped else self.evaluation

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` can write: the fields, and the format's number."""
        return {"format": FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The record that ``to_json`` gave.

        Raises:
            ArtifactError: another format, or fields that no record has or are of another type.
        """
        content = dict(value)
        given = content.pop("format", None)
        if given != FORMAT:
            raise ArtifactError(f"a run record must have 'format' {FORMAT}, got {given!r}")
        try:
            return cls(**content)
        except ValidationError as error:
            raise ArtifactError(f"a run record's {first_problem(error)}") from error

    def write(self, run_dir: Path) -> Path:
        """Put the record into a run directory, whole or not at all; gives the file's path."""
        return write_json(run_dir / RECORD_FILE, self.to_json())

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The record of a run directory."""
        path = run_dir / RECORD_FILE
        content = read_json(path)
        try:
            return cls.from_json(content)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error


def write_tables(run_dir: Path, tables: Iterable[Table]) -> list[str]:
    """Put tables into a run directory; gives their names, as a record lists them."""
    folder = run_dir / TABLES_DIR
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for table in tables:
        write_json(folder / f"{table.name}.json", table.to_json())
        names.append(table.name)
    return names


def read_tables(run_dir: Path, names: Iterable[str]) -> dict[str, Table]:
    """The named tables of a run directory, in the given order."""
    tables = {}
    for name in names:
        path = run_dir / TABLES_DIR / f"{name}.json"
        content = read_json(path)
        try:
            tables[name] = Table.from_json(content)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
    return tables


def write_json(path: Path, content: object) -> Path:
    """Write a value as JSON, whole or not at all; gives the path."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    """Write a text as UTF-8, whole or not at all, into a folder made for it; gives the path."""
    with replacement(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ArtifactError: no readable file, or anything else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: must be a readable file, {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not JSON
        raise ArtifactError(f"{path}: must hold JSON, {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: must hold a JSON object, got {type(content).__name__}")
    return content


def plain(value: object) -> Any:
    """The value that JSON would give back; NaN and infinities are None.

    Raises:
        TypeError: something that JSON has no word for.
    """
    match value:
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in cast("list[object]", value)]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return plain(dataclasses.asdict(value))
        case _:
            return plain_cell(value)
