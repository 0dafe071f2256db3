"""In what two runs differ, and the settings of the runs between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from recsys.config import DRAWN_SPLITS, Config
from recsys.config.section import flatten, nest
from recsys.data.fetching import fetch
from recsys.data.files import content_sha256
from recsys.errors import DataError
from recsys.reporting.bisection import Differing
from recsys.reporting.comparison import differing_settings, has_other_files
from recsys.reporting.past_run import PastRun

Factor = Literal["settings", "data", "code"]
_SEED = "experiment.seed"
_OF_NO_EFFECT = (
    "diagnostics.",
    "evaluation.baseline",
    "evaluation.memory_limit_mb",
    "evaluation.bootstrap_samples",
    "evaluation.confidence",
    "experiment.system_metrics",
)
"""Settings that change neither the model nor a user's metrics."""


class Cell(NamedTuple):
    """A run between two runs: what is as in the new one.

    Attributes:
        settings: how many of the settings that differ, the first ones.
        data: 0 for those of the old run, 1 for those of the new one; of either if they are alike.
        code: the same of the commit.
    """

    settings: int
    data: int
    code: int


@dataclass(frozen=True, eq=False)
class RunPair:
    """The two runs.

    Attributes:
        old: the first.
        new: the second.
        has_code: whether the commits differ and can be crossed.
    """

    old: PastRun
    new: PastRun
    has_code: bool

    @property
    def ends(self) -> tuple[PastRun, PastRun]:
        """Old and new."""
        return self.old, self.new

    @cached_property
    def differing(self) -> tuple[Differing, ...]:
        """Settings that both runs know, that differ and bear on the model or its metrics.

        A setting that follows from the others in both runs is none of them.
        """
        return tuple(each for each in self._all_differing if each.name not in self._derived)

    @cached_property
    def _all_differing(self) -> tuple[Differing, ...]:
        return tuple(
            Differing(name, old, new, "data" if self._is_of_data(name) else "settings")
            for name, (old, new) in differing_settings(self.ends)
            if ... not in (old, new) and not name.startswith(_OF_NO_EFFECT)
        )

    @cached_property
    def _derived(self) -> frozenset[str]:
        """Names of settings that differ but follow from the others."""
        flat = [flatten(run.record.config) for run in self.ends]
        names = (each.name for each in self._all_differing)
        return frozenset(name for name in names if all(_follows(name, each) for each in flat))

    @cached_property
    def settings(self) -> tuple[Differing, ...]:
        """Those that are not of the data."""
        return tuple(each for each in self.differing if each.factor == "settings")

    @property
    def has_other_files(self) -> bool:
        """Whether the files' contents differ."""
        return has_other_files(self.old, self.new)

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """What differs and can be crossed."""
        has_data = self.has_other_files or len(self.differing) > len(self.settings)
        found: dict[Factor, bool] = {
            "settings": bool(self.settings),
            "data": has_data,
            "code": self.has_code,
        }
        return tuple(name for name, differs in found.items() if differs)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The factorial: in cell ``c`` factor ``i`` is as in the new run where bit ``i`` is set.

        The first is the old run, the last the new one.
        """
        found = []
        for number in range(2 ** len(self.factors)):
            level = {name: number >> index & 1 for index, name in enumerate(self.factors)}
            n_settings = len(self.settings) * level.get("settings", 1)
            found.append(Cell(n_settings, level.get("data", 1), level.get("code", 1)))
        return tuple(found)

    def given(self, cell: Cell) -> PastRun | None:
        """The run that is this cell already."""
        return {self.cells[-1]: self.new, self.cells[0]: self.old}.get(cell)

    def commit(self, cell: Cell) -> str | None:
        """Of the code of a cell."""
        return self.ends[cell.code].record.commit

    def config(self, cell: Cell) -> dict[str, Any]:
        """The settings of a cell as a tree.

        A setting that the code of the cell does not know is left out.
        """
        flat = [flatten(run.record.config) for run in self.ends]
        base = flat[cell.settings > 0 and cell.settings == len(self.settings)]
        chosen = {name: value for name, value in base.items() if not self._is_of_data(name)}
        if 0 < cell.settings < len(self.settings):
            chosen |= {each.name: each.new for each in self.settings[: cell.settings]}
        if 0 < cell.settings < len(self.settings) or not self.has_code:  # by this code's own rules
            chosen = {name: v for name, v in chosen.items() if name not in self._derived}
        chosen |= {name: v for name, v in flat[cell.data].items() if self._is_of_data(name)}
        return nest({name: v for name, v in chosen.items() if _is_known(name, flat[cell.code])})

    def check_files(self) -> None:
        """Refuse data that are no longer what a run read.

        Raises:
            DataError: a file is gone or has changed.
        """
        for run in self.ends:
            for text, digest in run.record.sources.items():
                cache_dir = Path(run.record.config["data"]["cache_dir"])
                path = fetch(text, cache_dir) if "://" in text else Path(text)
                if not path.exists() or content_sha256(path) != digest:
                    how = (
                        "has changed since"
                        if path.exists()
                        else f"is not there (from {Path.cwd()})"
                    )
                    raise DataError(
                        f"{path}: must be as run '{run.name}' read it, so that runs between the "
                        f"two can be trained, but {how}"
                    )

    @cached_property
    def _is_drawn(self) -> bool:
        """Whether a seed draws what is held out."""
        return any(
            strategy in DRAWN_SPLITS
            or (
                strategy == "given"
                and run.record.setting("data.split.validation_fraction") is not None
            )
            for run in self.ends
            for strategy in [run.record.setting("data.split.strategy")]
        )

    def _is_of_data(self, name: str) -> bool:
        return name.startswith("data.") or (name == _SEED and self._is_drawn)


def _follows(name: str, flat: Mapping[str, Any]) -> bool:
    """Whether settings without this one, checked and filled in, are the same."""
    rest = nest({other: value for other, value in flat.items() if other != name})
    with suppress(ValueError):  # of another version
        return flatten(Config.model_validate(rest).model_dump(mode="json")) == flat
    return False


def _is_known(name: str, known: Collection[str]) -> bool:
    """Whether a setting is among those known; one that holds a mapping is by any entry."""
    return name in known or any(
        other.startswith(f"{name}.") or name.startswith(f"{other}.") for other in known
    )
