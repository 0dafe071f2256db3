"""The command that prepares a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.words import OVERRIDES, SettingsCommand

if TYPE_CHECKING:
    from recsys.config import DataConfig
    from recsys.data.dataset import Prepared


@click.command(cls=SettingsCommand, context_settings=OVERRIDES)
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML with differences from the defaults."
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def prepare(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Read, filter, split and featurise the data, once for all runs and sweeps that use it.

    Any setting can be given by its dotted name, as for 'bookends run'.
    """
    from experiments.console import RunConsole
    from experiments.dataset import check_sources
    from experiments.settings import load_config
    from recsys.data.dataset import prepare_cached

    settings = load_config(config, overrides)
    console = RunConsole()
    console.logging_to_console()
    check_sources(settings)
    prepared = prepare_cached(settings.data, settings.experiment.seed)
    console.prepared(prepared)
    for line in summary(settings.data, prepared):
        console.say(line)


def summary(config: DataConfig, prepared: Prepared) -> list[str]:
    """What the split holds, who is cold, and where the data set lies, a line each."""
    from recsys.data.dataset import cache_path

    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    split = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    cold = [
        f"{n - n_warm:,} of {n:,} {what} ({(n - n_warm) / max(n, 1):.1%})"
        for what, n, n_warm in (
            ("users", len(prepared.users), prepared.n_warm_users),
            ("items", len(prepared.items), prepared.n_warm_items),
        )
    ]
    return [
        f"split        {split} interactions",
        f"cold         {' and '.join(cold)} have no train interaction",
        f"fingerprint  {prepared.fingerprint}",
        f"cache        {cache_path(config, prepared.fingerprint)}",
    ]
