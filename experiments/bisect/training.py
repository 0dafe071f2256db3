"""The runs between two runs: trained once, and found again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.bisect.code import Checkout, git_place
from experiments.bisect.factors import Cell, RunPair
from experiments.console import RunConsole
from experiments.other_data import RunTest
from experiments.run_directory import RunDirectory
from experiments.runner import run as run_job
from experiments.settings import check_config, write_yaml
from recsys.config import Config, is_ranking_metric
from recsys.config.section import merge
from recsys.errors import ArtifactError, ConfigError, DataError
from recsys.reporting.bisection import CrossedRun
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import write_text
from tracking.past_runs import read_run


@dataclass(frozen=True, eq=False)
class Crossing:
    """Gives the run of each cell.

    Attributes:
        pair: the two runs.
        metric: that is explained.
        n_seeds: on how many seeds every run is trained.
        directory: of the bisection, whose name it has; runs are made in it.
        places: settings of the runs that say where they are tracked.
        checkout: gives the code of a commit.
        test: by which all runs are judged; None judges each by its own.
    """

    pair: RunPair
    metric: str
    n_seeds: int
    directory: Path
    places: dict[str, Any]
    checkout: Checkout
    test: RunTest | None

    def crossed(self, cell: Cell) -> CrossedRun:
        """A cell with the metric of its run on each seed.

        Raises:
            DataError: a run has no such metric of each user.
        """
        given = self.pair.given(cell)
        values = [
            metric_of(self._judged(self.run(cell, seed)), self.metric)
            for seed in range(self.n_seeds)
        ]
        name = self.run_name(cell) if given is None else given.name
        return CrossedRun(self.levels(cell), name, given is not None, values)

    def _judged(self, run: PastRun) -> PastRun:
        """The run with its metrics of the test users by which it is judged."""
        paired = None if self.test is None else self.test.judged(run)
        return run if paired is None else replace(run, per_user=paired.theirs)

    def run(self, cell: Cell, seed: int = 0) -> PastRun:
        """The run of a cell, trained where it is not there yet.

        Args:
            cell: what is old and new.
            seed: how far above the seed of the two runs.

        Raises:
            BookendsError: it cannot be trained.
        """
        given = None if seed else self.pair.given(cell)
        if given is not None:
            return given
        name = self.run_name(cell, seed)
        path = self.directory / "runs" / name
        directory, console = RunDirectory(path), RunConsole()
        record = directory.read_record()
        if record is None or record.status != "finished":
            said = f"{self.told(cell)}, seed {seed + 1}" if seed else self.told(cell)
            console.heading(f"between the two: {said}")
            config, is_there = self._config(cell, seed), directory.config_path.is_file()
            if config is not None:
                run_job(config, console, resume=directory if is_there else None)
            else:
                self._train_elsewhere(cell, seed, directory, console)
        return read_run(path)

    def check(self) -> None:
        """Refuse, before anything is trained, data that are gone and settings that are at odds.

        Raises:
            BookendsError: names them.
        """
        self.pair.check_files()
        for cell in self.pair.cells[1:-1]:
            self._config(cell)

    def is_possible(self, cell: Cell) -> bool:
        """Whether the settings of a cell go together."""
        try:
            self._config(cell)
        except ConfigError:
            return False
        return True

    def run_name(self, cell: Cell, seed: int = 0) -> str:
        """Such as ``bisect-1a2b3c4d-old-settings-new-data``."""
        parts = [f"{level} {factor}" for factor, level in self.levels(cell).items()]
        parts += [f"seed {seed + 1}"] if seed else []
        return "-".join(["bisect", self.directory.name.rpartition("-")[2], *parts]).replace(
            " ", "-"
        )

    def told(self, cell: Cell) -> str:
        """A cell in words, such as "old settings, new data"."""
        return ", ".join(f"{level} {factor}" for factor, level in self.levels(cell).items())

    def levels(self, cell: Cell) -> dict[str, str]:
        """Of each factor, whether it is old, new, or new in part."""
        n = len(self.pair.settings)
        part = {0: "old", n: "new"}.get(cell.settings, f"first {cell.settings} of {n} new")
        found = {"settings": part, "data": _level(cell.data), "code": _level(cell.code)}
        return {name: found[name] for name in self.pair.factors}

    def _config(self, cell: Cell, seed: int = 0) -> Config | None:
        """The settings of a cell; None where the code of another commit is to check them."""
        if self.checkout(self.pair.commit(cell)) is not None:
            return None
        return check_config(self._tree(cell, seed), {}, origin=self.told(cell))

    def _tree(self, cell: Cell, seed: int) -> dict[str, Any]:
        tree = self.pair.config(cell)
        name, experiment = self.run_name(cell, seed), dict(tree["experiment"])
        own: dict[str, Any] = {
            "run_name": name,
            "runs_dir": str(self.directory / "runs"),
            "seed": experiment["seed"] + seed,
        }
        if "tags" in experiment:  # which older code does not know
            own["tags"] = experiment["tags"] | {"bisect": self.directory.name}
        if "system_metrics" in experiment:
            own["system_metrics"] = False
        changes = {
            "experiment": own | self.places,
            "evaluation": {"baselines": []},  # they tell nothing here
            "diagnostics": {"report_path": str(self.directory / "reports" / f"{name}.md")},
        }
        return merge(tree, changes)

    def _train_elsewhere(
        self, cell: Cell, seed: int, directory: RunDirectory, console: RunConsole
    ) -> None:
        """Train by the code of another commit, in a process of its own.

        Raises:
            ArtifactError: it fails.
        """
        code = self.checkout(self.pair.commit(cell))
        assert code is not None
        console.say(f"by the code in {code}")
        words = ["--resume", str(directory.path)]
        if not directory.config_path.is_file():
            settings = self.directory / "settings" / f"{directory.name}.yaml"
            words = ["--config", str(write_text(settings, write_yaml(self._tree(cell, seed))))]
        # -P: the code of the working directory must not come before it
        done = subprocess.run(
            [sys.executable, "-P", "-m", "experiments", "run", *words],
            env=os.environ | {"PYTHONPATH": str(code)} | git_place(code),
            check=False,
        )
        if done.returncode:
            raise ArtifactError(
                f"{directory.path}: the run by the code in {code} must finish, but ended with exit "
                f"code {done.returncode}; what it said stands above"
            )


def metric_of(run: PastRun, metric: str) -> pd.Series:
    """A metric of a run by user id."""
    if metric not in run.per_user.columns:
        known = ", ".join(filter(is_ranking_metric, run.per_user.columns)) or "none"
        raise DataError(
            f"'--metric' must be one that every run has of each user, got '{metric}', which run "
            f"'{run.name}' has not ({known})"
        )
    return run.per_user.set_index("user_id")[metric]


def _level(level: int) -> str:
    return "new" if level else "old"
