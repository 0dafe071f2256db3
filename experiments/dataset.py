"""The data of a run or a sweep: where they are, what is kept of them, what is not as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.config import Config
from recsys.data.dataset import Prepared
from recsys.errors import ConfigError
from recsys.evaluation.evaluation import most_held_out

_COUNTS = {
    "n_users": "users",
    "n_items": "items",
    "train": "train interactions",
    "validation": "validation interactions",
    "test": "test interactions",
}


def check_sources(config: Config) -> None:
    """Refuse data that are looked for in the wrong place: paths are read from where one stands.

    Raises:
        ConfigError: names the first file that is not there.
    """
    for path in config.data.sources.values():
        if isinstance(path, Path) and not path.is_absolute() and not path.exists():
            raise ConfigError(
                f"{path}: no such file in {Path.cwd()}; what was begun in another directory goes "
                "on from there, or with whole paths"
            )


def describe_dataset(prepared: Prepared) -> dict[str, Any]:
    """What a record says of the data."""
    return {
        "fingerprint": prepared.fingerprint,
        "sources": prepared.sources,
        "n_users": len(prepared.users),
        "n_items": len(prepared.items),
        "n_warm_users": prepared.n_warm_users,
        "n_warm_items": prepared.n_warm_items,
        "train": len(prepared.train),
        "validation": len(prepared.validation),
        "test": len(prepared.test),
        "most_held_out": {
            "validation": most_held_out(prepared.validation.users),
            "test": most_held_out(prepared.test.users),
        },
        "split": dataclasses.asdict(prepared.split),
    }


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of two descriptions differs: files by name, counts with both values; else fingerprints.

    Args:
        before: as :func:`describe_dataset` gives it, or its fingerprint alone; what either lacks is
            not compared.
        now: of the data as they are.
    """
    old, new = before.get("sources"), now["sources"]
    prints = f"it was {before['fingerprint']}, now {now['fingerprint']}"
    if not old:
        return prints
    others = [path for path in new if new[path] not in old.values()]
    gone = [path for path in old if old[path] not in new.values() and path not in new]
    changes = [
        f"the content of '{path}' has changed" if path in old else f"'{path}' is new to it"
        for path in others
    ]
    changes += [f"'{path}' is no longer read" for path in gone]
    changes += [
        f"{called} were {before[name]:,}, now {now[name]:,}"
        for name, called in _COUNTS.items()
        if name in before and name in now and before[name] != now[name]
    ]
    if changes:
        return ", ".join(changes)
    return f"other settings, another seed or version prepare the same files: {prints}"
