"""A session of a sweep: what was asked for, checked; the study and its run, opened or made."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from experiments.environment import describe_environment
from experiments.runner import MLFLOW, check_sources, configure_torch, describe_dataset
from experiments.settings import check_config, flatten, read_yaml
from experiments.sweep_console import SweepConsole
from experiments.sweep_directory import SweepDirectory
from experiments.sweep_worker import (
    FINGERPRINT,
    LIMITS,
    STAGE,
    SWEEP_DIR,
    TRACKING,
    Stage,
    open_stage,
)
from experiments.trial import Metrics, check_measures, judge_lists, list_metrics, trial_config
from recsys.artifacts import locked
from recsys.baselines.popularity import Popularity
from recsys.baselines.tuning import tuned_baselines
from recsys.config import Config
from recsys.data.dataset import Prepared, prepare_cached
from recsys.data.histories import Histories
from recsys.errors import ConfigError
from recsys.evaluation.evaluation import Evaluation
from recsys.evaluation.ranking import Scorer
from recsys.evaluation.tables import Cell
from recsys.reporting.formatting import number
from sweeps.pruners import describe_pruner
from sweeps.record import Finalists, RankAgreement, SweepRecord, SweepStatus, TestLook, TrialRecord
from sweeps.samplers import describe_sampler
from sweeps.settings import COSTS, SweepSettings
from sweeps.space import Params, Space
from sweeps.storage import Storage, open_storage, refuse_shared
from sweeps.study import (
    DEFAULT,
    SETTINGS_KEY,
    SweepStudy,
    load_settings,
)
from sweeps.summary import findings, key_table, searched
from tracking.payload import baseline_group, baseline_metrics, markdown_table
from tracking.store import STORE_ERRORS, explain, resolve_uri, without_password
from tracking.sweep import SweepRun, open_sweep

CREATED, SECONDS, SESSIONS, LOOKS = "created", "seconds", "sessions", "test_looks"
BASELINES, DATASET = "baselines", "dataset"
"""What the study keeps of the sweep."""
COUNTS = ("n_users", "n_items", "train", "validation", "test")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        settings: of the sweep.
        name: of the sweep; None makes one from the space's and the settings' digest.
        space_name: of the space.
        storage: address of the study; None takes a journal file in the sweep's directory.
        sweeps_dir: where sweep directories are made.
    """

    settings: SweepSettings
    space_name: str
    name: str | None = None
    storage: str | None = None
    sweeps_dir: Path = Path("artifacts/sweeps")


@dataclass(eq=False)
class Session:
    """A sweep under way in this process: what all of its steps need."""

    request: Request
    settings: SweepSettings
    base: Config
    prepared: Prepared
    baselines: dict[str, Metrics]
    directory: SweepDirectory
    storage: Storage
    main: SweepStudy
    console: SweepConsole
    tracked: SweepRun | None
    started: float
    environment: dict[str, Any] = field(default_factory=describe_environment)
    finalists: Finalists | None = None
    fidelity: RankAgreement | None = None
    best_run_name: str | None = None

    def stage(self, stage: Stage) -> SweepStudy:
        """The study of a stage."""
        if stage == "search":
            return self.main
        limit = self.main.attribute(LIMITS)[stage]
        return open_stage(self.storage, self.directory.name, stage, self.settings, self.base, limit)

    def trials(self, study: SweepStudy, share: float = 1.0) -> tuple[TrialRecord, ...]:
        """The trials of a study; the default configuration shows its defaults."""
        defaults = default_params(study.space, self.base)
        is_default = {t.number for t in study.trials() if DEFAULT in t.user_attrs}
        return tuple(
            dataclasses.replace(trial, params=defaults) if trial.number in is_default else trial
            for trial in study.records(self.settings.constraints, share_of_users=share)
        )

    def record(self, status: SweepStatus, error: str | None = None) -> SweepRecord:
        """All that is known now."""
        settings = self.settings
        return SweepRecord(
            name=self.directory.name,
            status=status,
            created=self.main.attribute(CREATED),
            base_config=self.base.model_dump(mode="json"),
            space=settings.space,
            objectives=settings.objectives,
            n_trials=self.main.limit,
            seed=settings.seed,
            seconds=self.main.attribute(SECONDS) + time.monotonic() - self.started,
            sampler=dict(
                describe_sampler(
                    settings.sampler,
                    seed=settings.seed,
                    startup_trials=settings.startup_trials,
                )
            ),
            pruner=describe_pruner(settings),
            constraints=settings.constraints,
            workers=settings.workers,
            fingerprint=self.prepared.fingerprint,
            dataset=describe_dataset(self.prepared),
            trials=self.trials(self.main),
            baselines=self.baselines,
            finalists=self.finalists,
            fidelity=self.fidelity,
            test_looks=self.looks(),
            best_run_name=self.best_run_name,
            settings=settings.model_dump(mode="json"),
            sessions=self.main.attribute(SESSIONS),
            environment=self.environment,
            error=error,
        )

    def looks(self) -> tuple[TestLook, ...]:
        """Each opening of the test split so far, over all sessions."""
        return tuple(TestLook(**look) for look in self.main.attribute(LOOKS) or [])

    def look(self, look: TestLook) -> None:
        """Put down an opening of the test split."""
        looks = [asdict(each) for each in self.looks()]
        self.main.keep(LOOKS, [*looks, asdict(look)])

    def relook(self, look: TestLook) -> None:
        """Say of the last opening what it showed."""
        looks = [asdict(each) for each in self.looks()]
        self.main.keep(LOOKS, [*looks[:-1], asdict(look)])


def begin(request: Request, console: SweepConsole) -> Session:
    """Check everything, prepare the data, open or make the study and its run."""
    started = time.monotonic()
    base = check_config(request.settings.base, {}, origin="base configuration")
    space = Space.of(request.settings.space)
    space.check(lambda given: trial_config(request.settings.base, given, request.space_name))
    if request.storage is not None:
        refuse_shared(request.storage, resolve_uri(base.experiment.tracking_uri))
    configure_torch(base)
    check_sources(base)
    console.say(f"reading {' and '.join(map(str, base.data.source_paths.values()))}")
    prepared = prepare_cached(base.data, base.experiment.seed)
    settings = request.settings
    counted = Histories.of(prepared.train)
    judged = _judge(Popularity().fit(counted).scorer(counted, None), prepared, base)
    known = list_metrics(judged)
    check_measures(settings.measures, known)
    _check_finalists(settings, judged)
    name = request.name or f"{request.space_name}-{settings.digest(prepared.fingerprint)}"
    directory = SweepDirectory.of(request.sweeps_dir, name)
    with locked(directory.lock_path):
        storage = open_storage(request.storage or directory.default_storage)
        main = open_stage(storage, name, "search", settings, base, settings.n_trials)
        session = Session(
            request=request,
            settings=settings,
            base=base,
            prepared=prepared,
            baselines={"popularity": known},
            directory=directory,
            storage=storage,
            main=main,
            console=console,
            tracked=None,
            started=started,
        )
        _open_books(session)
        session.baselines = _tuned_once(session)
        track(session)
        session.record("running").write(directory.path)
    return session


def reopen(sweep_dir: Path, record: SweepRecord, storage: str | None) -> Session:
    """A session of a sweep that was begun, to read from: nothing of the study changes.

    Raises:
        ConfigError: there is no such study, or the address of its database lacks the password.
    """
    held = read_yaml(sweep_dir / "sweep.yaml")
    directory = SweepDirectory.of(sweep_dir.parent, sweep_dir.name)
    own = directory.journal_path.is_file()
    opened = open_storage(storage or (directory.default_storage if own else held["storage"]))
    settings, kept = load_settings(opened, record.name)
    base = check_config(settings.base, {}, origin="base configuration")
    return Session(
        request=Request(settings, record.name),
        settings=settings,
        base=base,
        prepared=prepare_cached(base.data, base.experiment.seed),
        baselines=kept.get(BASELINES) or {},
        directory=directory,
        storage=opened,
        main=open_stage(opened, record.name, "search", settings, base, record.n_trials),
        console=SweepConsole(),
        tracked=None,
        started=time.monotonic(),
        environment=record.environment,
        best_run_name=record.best_run_name,
    )


def default_params(space: Space | None, base: Config) -> Params:
    """What the default configuration has for each setting that varies, where it has a value."""
    if space is None:
        return {}
    resolved = flatten(base.model_dump(mode="json"))
    names = [dimension.name for dimension in space.dimensions]
    return {name: resolved[name] for name in names if resolved.get(name) is not None}


def _tuned_once(session: Session) -> dict[str, Metrics]:
    """What the baselines score on validation, tuned by it as trials are; the study keeps it."""
    kept = session.main.attribute(BASELINES)
    if kept is None:
        session.console.say("tuning the baselines")
        tuned = tuned_baselines(session.prepared, session.base, split="validation")
        for note in tuned.notes:
            session.console.say(note)
        kept = dict(session.baselines)
        for name, scorer in tuned.scorers.items():
            if name not in kept:
                kept[name] = list_metrics(_judge(scorer, session.prepared, session.base))
        session.main.keep(BASELINES, kept)
    found: dict[str, Metrics] = kept
    return found


def _judge(scorer: Scorer, prepared: Prepared, base: Config) -> Evaluation:
    evaluation = judge_lists(scorer, prepared, base)
    if evaluation.skipped is not None:
        raise ConfigError(
            f"a sweep judges by validation, but there is none: {evaluation.skipped}; see "
            "'data.split'"
        )
    return evaluation


def _check_finalists(settings: SweepSettings, judged: Evaluation) -> None:
    metric = settings.objectives[0].metric
    if settings.finalists and (metric in COSTS or metric not in judged.per_user.columns):
        raise ConfigError(
            "the first objective must have a value for each reader, so that finalists can be "
            f"compared, got '{metric}'; name another one first, or give --finalists 0"
        )


def _open_books(session: Session) -> None:
    """Make the study what the settings say, or check that it is."""
    main, settings, fingerprint = session.main, session.settings, session.prepared.fingerprint
    kept = main.attribute(SETTINGS_KEY)
    if kept is None and main.trials():
        raise ConfigError(
            f"the study '{main.name}' must be a sweep's, but another program made its "
            f"{len(main.trials())} trials; give another --name"
        )
    if kept is None:
        main.keep(CREATED, datetime.now(UTC).isoformat())
        main.keep(SECONDS, 0.0)
        main.keep(SESSIONS, 0)
        main.keep(FINGERPRINT, fingerprint)
        main.keep(DATASET, describe_dataset(session.prepared))
        main.keep(SWEEP_DIR, str(session.directory.path))
        main.keep(STAGE, "search" if settings.user_share is None else "share")
    else:
        _check_same(session, SweepSettings.model_validate(kept), main.attribute(FINGERPRINT))
    limits = _limits(session)
    main.limit = limits["search"]
    main.keep(LIMITS, limits)
    main.keep(SETTINGS_KEY, settings.model_dump(mode="json"))
    main.keep(SESSIONS, main.attribute(SESSIONS) + 1)
    first: Stage = "search" if settings.user_share is None else "share"
    queue_first(session, session.stage(first))
    session.directory.write_settings(
        {
            "name": session.directory.name,
            "storage": without_password(session.storage.url),
            **settings.model_dump(mode="json"),
        }
    )


def _check_same(session: Session, before: SweepSettings, fingerprint: str) -> None:
    old, new = flatten(before.identity()), flatten(session.settings.identity())
    for name in [*old, *(new.keys() - old.keys())]:
        if old.get(name) != new.get(name):
            raise ConfigError(
                f"the sweep '{session.directory.name}' must keep '{name}': it was "
                f"{old.get(name)!r:.200}, got {new.get(name)!r:.200}; give another --name"
            )
    if fingerprint != session.prepared.fingerprint:
        before_data = session.main.attribute(DATASET) or {"fingerprint": fingerprint}
        raise ConfigError(
            f"the sweep '{session.directory.name}' must go on with the data that it was begun on, "
            f"but {_data_changes(before_data, describe_dataset(session.prepared))}; give another "
            "--name for a new sweep"
        )


def _data_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not as it was: files by name, counts with both values."""
    old, new = before.get("sources", {}), now["sources"]
    files = [Path(path).name for path in new if path in old and old[path] != new[path]]
    changes = [f"the content of {' and '.join(files)} has changed"] if files else []
    changes += [
        f"'{path}' is {what}"
        for what, paths in (("new", new.keys() - old.keys()), ("gone", old.keys() - new.keys()))
        for path in sorted(paths)
        if old
    ]
    changes += [
        f"{name.removeprefix('n_')} were {before[name]:,}, now {now[name]:,}"
        for name in COUNTS
        if name in before and before[name] != now[name]
    ]
    # Same files and counts: what prepares them has changed.
    return ", ".join(changes) or f"it was {before['fingerprint']}, now {now['fingerprint']}"


def _limits(session: Session) -> dict[str, int]:
    """How many trials each stage may have."""
    settings = session.settings
    asked = settings.n_trials
    if settings.sampler == "grid":
        asked = min(asked, 1 + len(_cells(session)))
    if settings.user_share is None:
        return {"search": asked, "share": 0, "finalists": 0}
    return {"search": 1 + (settings.promoted or 0), "share": asked, "finalists": 0}


def _cells(session: Session) -> list[Params]:
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


def queue_first(session: Session, study: SweepStudy) -> None:
    """Queue the default configuration as trial 0, and a grid's cells up to the limit."""
    assert study.space is not None
    n_known = sum("retry_of" not in trial.user_attrs for trial in study.trials())
    if n_known == 0:
        params = study.space.within(flatten(session.base.model_dump(mode="json")))
        study.queue(params, **{DEFAULT: list(params)})
        n_known = 1
    if session.settings.sampler == "grid":
        for cell in _cells(session)[n_known - 1 : study.limit - 1]:
            study.queue(cell)


def track(session: Session) -> None:
    """Open the sweep's run, where the sweep is to be tracked and the store answers."""
    if session.tracked is not None or not session.base.experiment.tracking:
        return
    try:
        session.tracked = open_run(session)
    except STORE_ERRORS as error:
        why = explain(error, resolve_uri(session.base.experiment.tracking_uri))
        logger.warning("the tracking store is away (%s); the sweep goes on", why)


def open_run(session: Session, tracking_uri: str | None = None) -> SweepRun:
    """The sweep's run in MLflow, made where there is none.

    Args:
        session: of the sweep.
        tracking_uri: another store than that of the settings.

    Raises:
        STORE_ERRORS: the store is away.
    """
    settings, main = session.settings, session.main
    kept = main.attribute(TRACKING) or {}
    configured = tracking_uri or session.base.experiment.tracking_uri
    usual = configured or os.environ.get("MLFLOW_TRACKING_URI")
    uri = usual or kept.get("uri")  # a sweep goes on in its store, wherever one stands
    dumped = settings.model_dump(mode="json", exclude={"base", "epoch_metrics"})
    tracked = open_sweep(
        uri,
        experiment=session.base.experiment.name,
        name=session.directory.name,
        created=main.attribute(CREATED),
        params={"cfg": session.base.model_dump(mode="json"), "sweep": dumped},
        tags={
            "bookends.kind": "sweep",
            "bookends.sweep_dir": str(session.directory.path),
            "bookends.dataset": session.prepared.fingerprint,
            "optuna.study": session.directory.name,
            "optuna.storage": without_password(session.storage.url),
        },
        run_id=kept.get("run_id"),
    )
    main.keep(
        TRACKING,
        {
            "uri": without_password(tracked.uri),
            "run_id": tracked.run_id,
            "experiment_id": tracked.experiment_id,
        },
    )
    steps = [dataclasses.asdict(step) for step in session.prepared.filter_steps]
    tracked.send_origin(session.environment, describe_dataset(session.prepared), steps)
    tracked.send_tags({"mlflow.note.content": describe(session.record("running"))})
    for baseline, values in session.baselines.items():
        names = baseline_metrics(
            baseline, session.base.evaluation.metric_names, session.settings.objectives[0].metric
        )
        row = {name: values.get(name) for name in names}
        tracked.send_metrics(baseline_group(baseline, "validation"), row)
    return tracked


def describe(record: SweepRecord) -> str:
    """Markdown for the head of the sweep's page: what was searched, key figures, what was found."""
    table = key_table(record)
    rows = [[_figure(cell) for cell in row] for row in table.rows]
    parts = [searched(record), "\n".join(markdown_table(table.columns, rows))]
    parts.insert(1, f"Failed: {record.error}" if record.status == "failed" else "")
    parts.append("" if record.status == "running" else findings(record))
    return "\n\n".join(part for part in parts if part)


def _figure(cell: Cell) -> str:
    """A cell of the key table; costs, which are large, without decimals."""
    if isinstance(cell, int | float):
        return number(float(cell), 4 if abs(cell) < 100 else 0)
    return cell or ""


def close_session(session: Session, status: SweepStatus, error: str | None = None) -> None:
    """Put down how the session ended, and for how long it went on."""
    seconds = session.main.attribute(SECONDS) + time.monotonic() - session.started
    session.main.keep(SECONDS, seconds)
    session.started = time.monotonic()
    if session.tracked is not None:
        note = describe(session.record(status, error))
        session.tracked.send_tags({"mlflow.note.content": note})
        session.tracked.finish(status, error)


def ui_command(session: Session) -> str | None:
    """How to look at the sweep."""
    if session.tracked is None:
        return None
    return f"{MLFLOW} ui --backend-store-uri {without_password(session.tracked.uri)}"
