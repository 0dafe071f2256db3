"""Runs that were judged on their test, by values of each user written down by hand."""

import numpy as np
import pandas as pd

from recsys.config import Config
from recsys.config.section import merge, nest
from recsys.reporting.past_run import PastRun
from recsys.reporting.record import RunRecord


def judged_run(name, values, *, config=None, segment="tail", run_id=None, tables=None, **changes):
    """A run with the given metrics of each user.

    Args:
        name: of the run.
        values: a column a metric, one value a user.
        config: settings by dotted name, where they are not the defaults.
        segment: of all users, or of each.
        run_id: the tracker's id.
        tables: of its report, by name.
        changes: fields of the record.
    """
    n = len(next(iter(values.values())))
    users = {"user_id": [f"r{number}" for number in range(n)], "n_train": 9, "segment": segment}
    means = {metric: float(np.mean(column)) for metric, column in values.items()}
    intervals = {metric: (mean - 0.01, mean + 0.01) for metric, mean in means.items()}
    fields = {
        "status": "finished",
        "created": f"2026-01-02T03:04:05+00:00#{name}",
        "config": merge(Config().model_dump(mode="json"), nest(config or {})),
        "dataset": {"fingerprint": "sha256:abc", "sources": {"books.csv": "ff00"}},
        "evaluation": {
            "split": "test",
            "n_users": n,
            "model": {"means": means, "intervals": intervals},
        },
    }
    record = RunRecord(name, **(fields | changes))
    return PastRun(name, record, pd.DataFrame(users | values), run_id=run_id, tables=tables or {})
