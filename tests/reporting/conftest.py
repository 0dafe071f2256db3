"""A finished run with everything a report can show."""

import pytest

from recsys.config import Config
from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord, write_tables

NASTY = 'The <script>alert("x")</script> | Æther & “Co” *_`[a](b)'


def scores(factor):
    means, intervals = {}, {}
    for k, gain in ((5, 0.8), (10, 1.0), (20, 1.2)):
        for name, value in (("ndcg", 0.2), ("recall", 0.3)):
            for prefix in ("", "sampled_"):
                mean = value * gain * factor
                means[f"{prefix}{name}@{k}"] = mean
                intervals[f"{prefix}{name}@{k}"] = (mean * 0.95, mean * 1.05)
    means["coverage@10"] = 0.5
    return {"means": means, "intervals": intervals}


def epoch(number):
    return {
        "number": number,
        "train_loss": 1 / number,
        "parts": {"ranking": 0.9 / number, "mimic": 0.1 / number},
        "validation": {"ndcg@10": 0.1 + 0.01 * number, "ndcg@5": 0.09},
        "seconds": 1.5,
    }


@pytest.fixture
def make_record():
    """A record with the given fields replaced."""

    def make(**changes):
        fields = {
            "run_name": "mimic-1",
            "status": "finished",
            "created": "2026-01-02T03:04:05Z",
            "config": Config().model_dump(mode="json"),
            "dataset": {
                "fingerprint": "sha256:abc",
                "sources": {"books.csv": "ff00"},
                "n_users": 1200,
                "n_items": 900,
                "n_warm_users": 1100,
                "n_warm_items": 800,
                "train": 30000,
                "validation": 1100,
                "test": 1100,
                "split": {"strategy": "leave_latest_out", "order": "timestamp", "skipped": None},
            },
            "filter_steps": [
                {"name": "read", "users": 1500, "items": 1000, "interactions": 35000},
                {"name": "min_rating", "users": 1450, "items": 990, "interactions": 34000},
                {"name": "k_core", "users": 1200, "items": 900, "interactions": 32200},
            ],
            "model_size": {"parameters": 1000, "bytes": 4000},
            "history": [epoch(1), epoch(2), epoch(3)],
            "best_epoch": 2,
            "stop_reason": "all epochs done",
            "evaluation": {
                "split": "test",
                "skipped": None,
                "n_users": 1100,
                "model": scores(1.0),
                "baselines": {
                    "popularity": scores(0.25),
                    "ease": scores(0.75),
                    "oracle": scores(2.0),
                },
            },
            "oracle": {"expected_ndcg@10": 0.41},
            "environment": {
                "python": "3.11",
                "packages": {"numpy": "2.0"},
                "git_commit": "abcdef0",
                "command": "bookends run --config quick.yaml",
            },
            "seconds": 75.0,
            "peak_memory_mb": 700.0,
        }
        return RunRecord(**(fields | changes))

    return make


@pytest.fixture
def tables():
    gates = Table(
        "gates_by_popularity",
        "Gates",
        "1: id.",
        ("side", "train_interactions", "n", "mean_gate", "p10", "p90", "leaning_on_id"),
        (("item", "0", 3, 0.0, 0.0, 0.0, 0.0), ("item", "1–5", 4, 0.4, 0.3, 0.5, 0.2)),
    )
    histogram = Table(
        "embedding_norm_histogram",
        "Histogram",
        "Counts.",
        ("side", "vector", "from", "to", "count", "share"),
        (("item", "id", 0.0, 1.0, 3, 0.3), ("item", "id", 1.0, 2.0, 7, 0.7)),
    )
    example = Table(
        "example_1",
        "Example 1: user u|1",
        "Held out: none.",
        (
            *("part", "rank", "title", "author", "categories", "score"),
            *("category_hit", "author_hit", "held_out"),
        ),
        (
            ("history", 1, "Old", "A", "x|y", None, None, None, None),
            ("recommended", 1, NASTY, "B", "a|b|c|d|e|f|g", 1.5, "yes", "", "yes"),
        ),
    )
    other = Table("something_new", "Something new", "", ("what", "value"), (("gap", None),))
    return {table.name: table for table in (gates, histogram, example, other)}


@pytest.fixture
def make_run_dir(tmp_path, make_record, tables):
    """A run directory; ``tables`` and fields of the record can be replaced."""

    def make(*, given=None, **changes):
        run_dir = tmp_path / "run"
        run_dir.mkdir(exist_ok=True)
        held = tables if given is None else given
        record = make_record(tables=write_tables(run_dir, held.values()), **changes)
        record.write(run_dir)
        return run_dir

    return make
