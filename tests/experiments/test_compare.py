"""Runs and comparisons as the command line gives them."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.runs_console import print_runs
from tests.cli import bookends
from tests.judged_runs import judged_run
from tracking.mirror import mirror
from tracking.run_list import list_runs

N = 300


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, copy_store):
    """A store with three runs: plain, better by 0.1 for each user, and of other data."""
    place = tmp_path_factory.mktemp("shelf")
    store = copy_store(place)
    base = np.random.default_rng(0).uniform(0.2, 0.4, size=N)
    noise = np.random.default_rng(1).normal(0, 0.1, size=N)
    for name, ndcg, fingerprint, dim in (
        ("plain", base, "sha256:aaaa", 32),
        ("better", base + 0.1 + noise, "sha256:aaaa", 64),
        ("foreign", base, "sha256:bbbb", 32),
    ):
        run = judged_run(
            name,
            {"ndcg@10": ndcg, "recall@10": np.full(N, 0.5)},
            config={"model.user_encoder.id_embedding.params.embedding_dim": dim},
            dataset={"fingerprint": fingerprint, "n_users": N, "n_items": 9, "train": 10},
            created="2026-01-02T03:04:05+00:00",
        )
        path = place / "runs" / name
        path.mkdir(parents=True)
        run.record.write(path)
        run.per_user.to_parquet(path / "per_user.parquet")
        mirror(path, store)
    return place, store


@pytest.fixture
def cli(shelf, tmp_path, monkeypatch):
    """Runs a command in a directory of its own, the store in the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shelf[1])
    monkeypatch.chdir(tmp_path)
    return bookends


def test_runs_are_listed_best_first_with_what_they_were(cli):
    lines = cli("runs").output.splitlines()
    rows = [line for line in lines if "finished" in line]
    assert rows[0].split()[0] == "better"
    assert {row.split()[0] for row in rows[1:]} == {"plain", "foreign"}
    for told in ("2026-01-02 03:04", "aaaa", "64", "[0."):
        assert told in rows[0]


def test_a_scant_terminal_shows_which_run_it_is(shelf):
    (row, *_) = list_runs(shelf[1], "bookends")
    console = Console(width=40, record=True, file=io.StringIO())
    print_runs([row], sort="ndcg@10", limit=20, console=console)
    text = console.export_text()
    assert row.name in text and row.run_id[:8] in text and "NDCG@10" in text


def test_runs_can_be_chosen_and_given_to_programs(cli):
    rows = json.loads(cli("runs", "--filter", "ndcg@10>=0.35", "--json").output)
    assert [row["name"] for row in rows] == ["better"]
    assert rows[0]["metrics"]["test/ndcg_at_10"] > 0.35


def test_no_run_is_said_to_be_none(cli):
    assert cli("runs", "--filter", "ndcg@10>=5").output.strip() == "no such run"


def test_a_comparison_is_printed_written_and_logged(cli, tmp_path):
    result = cli("compare", "plain", "better", "--name", "first")
    assert result.exit_code == 0
    assert "better is better than plain on NDCG@10. The difference is +" in result.output
    assert "model.user_encoder.id_embedding.params.embedding_dim" in result.output
    place = tmp_path / "artifacts" / "comparisons" / "first"
    content = json.loads((place / "comparison.json").read_text())
    assert content["pairs"][0]["verdict"] == "better"
    rows = json.loads(cli("runs", "--all", "--json").output)
    (logged,) = [row for row in rows if row["kind"] == "comparison" and row["name"] == "first"]
    assert logged["run_id"] in result.output


def test_a_comparison_can_leave_mlflow_out(cli, shelf, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    runs = shelf[0] / "runs"
    result = cli("compare", runs / "plain", runs / "better", "--no-track", "--out", "here")
    assert result.exit_code == 0 and "MLflow" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_directory_is_logged_where_it_was_tracked(cli, shelf, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    runs = shelf[0] / "runs"
    assert shelf[1] in cli("compare", runs / "plain", runs / "better").output
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_fails_loses_no_comparison(cli, shelf, tmp_path):
    (tmp_path / "file").write_text("")
    runs, away = shelf[0] / "runs", f"sqlite:///{tmp_path}/file/mlflow.db"
    result = cli("compare", runs / "plain", runs / "better", "--tracking-uri", away)
    assert result.exit_code == 2
    assert "is written, but could not be sent" in result.output
    assert list(tmp_path.glob("artifacts/comparisons/*/comparison.html"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("plain", "foreign"), "'plain' has sha256:aaaa, 'foreign' has sha256:bbbb"),
        (("plain",), "two runs or more, got 1"),
        (("plain", "plain"), "'plain' twice"),
        (("plain", "nobody"), "run 'nobody': must be a run directory"),
        (("plain", "better", "--metric", "ndcg@3"), "'--metric' must be one"),
        (("plain", "better", "--name", "../up"), "'--name' must hold letters"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(cli, tmp_path, arguments, reason):
    result = cli("compare", *arguments)
    assert result.exit_code == 2
    assert reason in result.output and len(result.output.splitlines()) == 1
    assert not (tmp_path / "artifacts").exists()
