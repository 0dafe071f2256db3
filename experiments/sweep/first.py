"""What a sweep runs first: default, starting points of the space, the best of earlier sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.settings import flatten
from experiments.sweep.session import Session
from recsys.config import Config
from recsys.errors import ConfigError
from recsys.models.build import with_usual
from sweeps.findings import EarlierSweep
from sweeps.importances import importances_of
from sweeps.record import DEFAULT, RECORD_FILE, SweepRecord
from sweeps.space import Params, Space
from sweeps.start import START
from sweeps.study import SweepStudy
from sweeps.trials import ORIGIN, RETRY_OF
from tracking.run_list import sweep_directories
from tracking.store import resolve_uri

WARM_TRIALS = 3
"""Configurations that are taken from an earlier sweep."""


def queue_first(session: Session, study: SweepStudy) -> int:
    """Queue what comes first, unless it was; gives how many configurations there are."""
    # all is read before anything is queued: a sweep that is stopped here begins anew
    points = [] if study.trials() else _first(session, study.space)
    n_known = queue_default(session, study)
    for origin, params in points:
        study.queue(params, **{ORIGIN: origin})
    return n_known


def queue_default(session: Session, study: SweepStudy) -> int:
    """Queue the default configuration as trial 0; gives how many configurations there are."""
    n_known = sum(RETRY_OF not in trial.user_attrs for trial in study.trials())
    if n_known == 0:
        params = _default(session, study.space)
        study.queue(params, **{DEFAULT: list(params)})
    return max(1, n_known)


def _default(session: Session, space: Space) -> Params:
    """The default configuration as a trial's values, with those that the data decides.

    A sampler learns nothing of a trial that has no value of what it draws.
    """
    base, prepared = session.base, session.prepared
    has_order = prepared.train.times is not None
    model = with_usual(base.model, n_items=prepared.n_warm_items, has_order=has_order)
    return space.within(flatten(base.model_copy(update={"model": model}).model_dump(mode="json")))


def _first(session: Session, space: Space) -> list[tuple[str, Params]]:
    """(where it is from, values) of what follows the default, each configuration once."""
    settings, base = session.settings, session.base
    sweep_dirs = earlier_sweeps(settings.warm_from, base)
    found = [(path.name, importances_of(SweepRecord.read(path))[0]) for path in sweep_dirs]
    session.keep(earlier=[EarlierSweep(*each) for each in found])
    known = [_default(session, space)]
    points = list[tuple[str, Params]]()
    for origin, params in [
        *((f"{START} {number}", params) for number, params in enumerate(settings.start, start=1)),
        *((f"best of {path.name}", params) for path in sweep_dirs for params in _best(path, space)),
    ]:
        if params not in known:
            known.append(params)
            points.append((origin, params))
    return points


def _best(sweep_dir: Path, space: Space) -> list[Params]:
    """The best configurations of an earlier sweep, as far as a space holds them.

    Its first ``WARM_TRIALS`` finalists, or of its trials where it has none. What the space does not
    hold of one is left for the sampler to draw.

    Raises:
        ConfigError: nothing of it lies in the space.
    """
    record = SweepRecord.read(sweep_dir)
    rows = record.finalists.rows if record.finalists else ()
    best = [row.params for row in rows] or [trial.params for trial in record.ranked()]
    earlier, settings = Space.of(record.space), flatten(record.base_config)
    found = [space.within(settings | earlier.settings(params)) for params in best]
    found = [params for params in found[:WARM_TRIALS] if params]
    if not found:
        raise ConfigError(
            f"{sweep_dir}: a sweep to start from must have completed a trial with settings of "
            f"the space, but none of its {len(best)} does"
        )
    return found


def earlier_sweeps(named: Sequence[str], base: Config) -> list[Path]:
    """Directories of sweeps that are named so, or that an MLflow experiment of that name holds.

    Raises:
        ConfigError: there is no such directory, and the experiment has no sweep on this machine.
        TrackingError: there is neither a directory nor an experiment of that name.
    """
    found = list[Path]()
    for name in named:
        if (Path(name) / RECORD_FILE).is_file():
            found.append(Path(name))
            continue
        held = sweep_directories(resolve_uri(base.experiment.tracking_uri), name)
        here = [path for path in held if (path / RECORD_FILE).is_file()]
        ended = [path for path in here if SweepRecord.read(path).ranked()]
        if not ended:
            raise ConfigError(
                f"'--warm-from' must name a sweep's directory, or an experiment with sweeps that "
                f"completed a trial on this machine, got '{name}'"
            )
        found += ended
    return found
