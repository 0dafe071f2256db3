"""What the shell completes, and how a long command shows its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

_PARTS = {
    "What is searched": ("space", "config", "objectives", "constraints"),
    "How long": ("n_trials", "hours", "stop"),
    "How": (
        *("sampler", "startup_trials", "pruner", "pruner_startup_trials", "pruner_warmup_epochs"),
        *("percentile", "pruner_patience", "reduction_factor", "warm_from", "seed", "workers"),
    ),
    "A share of the users first": ("user_share", "promoted"),
    "The last round": (
        *("finalists", "finalist_seeds", "race"),
        *("baseline_trials", "final_run"),
    ),
    "Where": ("name", "storage", "sweeps_dir"),
    "On which machines": (
        *("launcher", "ray_address", "cpus_per_worker", "gpus_per_worker"),
        *("ray_cache_dir", "ray_listen", "upload_data"),
    ),
}
OVERRIDES = {"ignore_unknown_options": True, "allow_interspersed_args": True}
"""Settings of click for a command that takes any setting by its dotted name."""
Complete = Callable[[click.Context, click.Parameter, str], list[str]]
_RECORDS = {"runs": "record.json", "sweeps": "study.json"}


class SettingsCommand(click.Command):
    """A command that takes any setting by its dotted name, which the shell completes."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The command's own words, and the settings that begin so."""
        from experiments.settings import setting_names

        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("--"):
            found += [
                CompletionItem(f"--{name}")
                for name in setting_names()
                if f"--{name}".startswith(incomplete)
            ]
        return found


class SweepCommand(SettingsCommand):
    """The command that sweeps: its options stand in parts."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the parts, then what belongs to none."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        records = {each.name: each.get_help_record(ctx) for each in options}
        named = {name for names in _PARTS.values() for name in names}
        parts = _PARTS | {"Other options": [name for name in records if name not in named]}
        for title, names in parts.items():
            rows = [record for name in names if (record := records.get(name))]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Commands beside it"):
            formatter.write_dl(
                [
                    ("sweep worker", "Take part in a sweep, from this or another machine."),
                    ("sweep report", "Write the report of a sweep again."),
                ]
            )


def words_of(setting: str) -> Complete:
    """Completes one of the words of a setting of sweeps, which refuses others itself."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        from sweeps import settings

        words = {"sampler": settings.SamplerName, "pruner": settings.PrunerName}[setting]
        return [word for word in get_args(words) if word.startswith(incomplete)]

    return complete


class RunPath(click.Path):
    """A directory that a run or a sweep left: its path, or its name where it is below artifacts."""

    def __init__(self, *kinds: str) -> None:
        super().__init__(path_type=Path)
        self._kinds = kinds

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path, or where there is none the directory of that name below artifacts."""
        path = Path(value)
        if len(path.parts) == 1 and not path.exists():
            named = [Path("artifacts", kind, path) for kind in self._kinds]
            path = next((directory for directory in named if directory.is_dir()), path)
        return super().convert(path, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Directories here that begin so or are named so, newest first."""
        found = _directories(self._kinds, incomplete)
        return found or super().shell_complete(ctx, param, incomplete)


def complete_run(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Completes what a person calls a run to its directory, else to files."""
    return _directories(("runs",), incomplete) or [CompletionItem(incomplete, type="file")]


def _directories(kinds: Sequence[str], incomplete: str) -> list[CompletionItem]:
    found = [
        path
        for kind in kinds
        for path in Path("artifacts", kind).glob("*")
        if (path / _RECORDS[kind]).is_file()
    ]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [
        CompletionItem(str(path))
        for path in found
        if str(path).startswith(incomplete) or path.name.startswith(incomplete)
    ]
