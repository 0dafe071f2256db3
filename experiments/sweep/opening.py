"""From the command line to a session: what was asked for, checked; the study, opened or made."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from experiments.dataset import check_sources, describe_dataset
from experiments.environment import configure_torch
from experiments.settings import (
    apart,
    check_config,
    flatten,
    read_yaml,
    write_yaml,
)
from experiments.sweep.console import SweepConsole
from experiments.sweep.directory import SweepDirectory
from experiments.sweep.first import queue_first
from experiments.sweep.request import SweepRequest, trial_config
from experiments.sweep.session import Session, track
from experiments.sweep.state import load_state
from experiments.sweep.trial import (
    check_measures,
    evaluate_lists,
    list_metrics,
)
from recsys.artifacts import locked, make_folder
from recsys.baselines.popularity import fit_popularity
from recsys.config import Config
from recsys.data.dataset import Prepared, prepare_cached
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.reporting.record import write_text
from sweeps.findings import Numbers
from sweeps.record import SweepRecord
from sweeps.settings import (
    COSTS,
    UNLIMITED,
    SweepSettings,
)
from sweeps.space import Params, Space
from sweeps.storage import open_storage, refuse_shared
from sweeps.study import SETTINGS_KEY, Stage, open_study
from tracking.processes import Owner
from tracking.store import resolve_uri, without_password


def begin(request: SweepRequest, console: SweepConsole) -> Session:
    """Check everything, prepare the data, open or make the study and its run."""
    started, settings = time.monotonic(), request.settings
    if request.name is not None and not re.fullmatch(r"(?!\.+$)[\w.-]+", request.name):
        raise ConfigError(
            "'--name' must be made of letters, digits, '-', '_' and '.', not of dots alone, got "
            f"'{request.name}'"
        )
    base = check_config(settings.base, {}, origin="base configuration")
    if request.upload_data and not base.experiment.tracking:
        raise ConfigError("'--upload-data' must have a tracker, but 'experiment.tracking' is false")
    if request.storage is not None:
        refuse_shared(request.storage, resolve_uri(base.experiment.tracking_uri))
    configure_torch(base)
    check_sources(base)
    console.say(f"reading {' and '.join(map(str, base.data.sources.values()))}")
    prepared = prepare_cached(base.data, base.experiment.seed)
    popularity = _check_measures(settings, prepared, base)
    name = request.name or f"{request.space_name}-{settings.digest(prepared.fingerprint)}"
    directory = SweepDirectory((request.sweeps_dir / name).absolute())
    make_folder(directory.path, "--sweeps-dir")
    with locked(directory.lock_path):
        storage = open_storage(request.storage or str(directory.journal_path))
        main = open_study(storage, name, "search", settings, base, settings.most_trials)
        session = Session(settings, base, prepared, directory, storage, main, console, started)
        _prepare_study(session)
        session.keep(baselines={"popularity": popularity} | session.state.baselines)
        track(session)
        session.took("start-up", time.monotonic() - started)
        session.record("running").write(directory.path)
    return session


def reopen(sweep_dir: Path, record: SweepRecord, storage: str | None) -> Session:
    """A session of a sweep that was begun, to read from.

    Raises:
        ConfigError: there is no such study, the address of its database lacks the password, or the
            data are others now.
    """
    directory = SweepDirectory(sweep_dir.absolute())
    if storage is None and directory.journal_path.is_file():
        storage = str(directory.journal_path)
    opened = open_storage(storage or read_yaml(directory.settings_path)["storage"])
    settings = load_state(opened, record.name).settings
    base = check_config(settings.base, {}, origin="base configuration")
    session = Session(
        settings,
        base,
        prepare_cached(base.data, base.experiment.seed),
        directory,
        opened,
        open_study(opened, record.name, "search", settings, base, record.n_trials or UNLIMITED),
        SweepConsole(),
        environment=record.environment,
    )
    _check_data(session)
    return session


def _check_measures(settings: SweepSettings, prepared: Prepared, base: Config) -> Numbers:
    """Refuse measures that no trial has a value of; gives what popularity scores on validation."""
    counted = Histories.of(prepared.train)
    popularity = fit_popularity(counted)(counted, None)
    evaluation = evaluate_lists(popularity, prepared, base)
    if evaluation.skipped is not None:
        raise ConfigError(
            "a sweep compares trials on validation, but there is none: "
            f"{evaluation.skipped}; see 'data.split'"
        )
    known = list_metrics(evaluation)
    check_measures(settings.measures, known)
    metric = settings.objectives[0].metric
    if settings.finalists and (metric in COSTS or metric not in evaluation.per_user.columns):
        raise ConfigError(
            "the first objective must have a value for each user, so that finalists can be "
            f"compared, got '{metric}'; name another one first, or give --finalists 0"
        )
    return known


def _prepare_study(session: Session) -> None:
    """Make the study what the settings say, or check that it is; queue what comes first."""
    main, settings, directory = session.main, session.settings, session.directory
    first: Stage = "search" if settings.user_share is None else "share"
    if SETTINGS_KEY in main.kept():
        _check_same(session)
    else:
        _refuse_foreign(session)
        session.keep(
            created=datetime.now(UTC).isoformat(),
            fingerprint=session.prepared.fingerprint,
            dataset=describe_dataset(session.prepared),
            sweep_dir=directory.path,
            stage=first,
        )
    cells = _grid(session) if settings.sampler == "grid" else None
    asked = settings.most_trials if cells is None else min(settings.most_trials, 1 + len(cells))
    limits = {first: asked}
    if first == "share":
        limits["search"] = 1 + (settings.promoted or 0)
    main.limit = limits["search"]
    sessions = main.kept().get("sessions", 0) + 1
    session.keep(limits={"share": 0, "finalists": 0} | limits, settings=settings)
    session.keep(sessions=sessions, owner=Owner.current())
    study = session.stage(first)
    study.go_on()
    n_known = queue_first(session, study)
    for cell in (cells or [])[n_known - 1 : study.limit - 1]:
        study.queue(cell)
    head = {"name": directory.name, "storage": without_password(session.storage.url)}
    write_text(directory.settings_path, write_yaml(head | settings.model_dump(mode="json")))


def _refuse_foreign(session: Session) -> None:
    """Refuse to begin where there are trials, or the study of a stage, already."""
    main, known = session.main, optuna.get_all_study_names(session.storage.backend)
    stages = [name for name in (f"{main.name}.share", f"{main.name}.finalists") if name in known]
    if main.trials():
        raise ConfigError(
            f"the study '{main.name}' must be a sweep's, but another program made its "
            f"{len(main.trials())} trials; give another --name"
        )
    if stages:
        raise ConfigError(
            f"the studies of a new sweep '{main.name}' must be new, but there is one of the name "
            f"'{stages[0]}'; give another --name"
        )


def _grid(session: Session) -> list[Params]:
    """The grid without the default configuration, in the order in which it is gone through.

    Cells that come to the same configuration, as one that fills in a default does, are one.
    """
    space = Space.of(session.settings.space)
    cells, seen = list[Params](), {session.base.model_dump_json()}
    for cell in space.grid(np.random.default_rng(session.settings.seed)):
        config = trial_config(session.settings.base, space.settings(cell), "base")
        if config.model_dump_json() not in seen:
            seen.add(config.model_dump_json())
            cells.append(cell)
    return cells


def _check_same(session: Session) -> None:
    state, name = session.state, session.directory.name
    old, new = _resolved(state.settings), _resolved(session.settings)
    for setting in [*old, *(new.keys() - old.keys())]:
        before, now = old.get(setting), new.get(setting)
        if before != now:
            data = state.data_changes(session.prepared)
            changes = f" ({data})" if data and setting.endswith("_path") else ""
            was, got = apart(before, now)
            raise ConfigError(
                f"the sweep '{name}' must keep '{setting}': it was {was}, got {got}{changes}; "
                "give another --name"
            )
    _check_data(session)


def _resolved(settings: SweepSettings) -> dict[str, Any]:
    """What must stay the same, by dotted name, however it was given."""
    base = check_config(settings.base, {}, origin="base configuration")
    return flatten(settings.identity() | {"base": base.model_dump(mode="json")})


def _check_data(session: Session) -> None:
    if changes := session.state.data_changes(session.prepared):
        raise ConfigError(
            f"the sweep '{session.directory.name}' must have the data that it was begun on, but "
            f"{changes}; a new sweep needs another --name"
        )
