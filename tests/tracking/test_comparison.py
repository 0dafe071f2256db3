import numpy as np
import pytest

from recsys.reporting.comparison import compare
from recsys.reporting.comparison_report import write_comparison
from tests.judged_runs import judged_run
from tracking.comparison import comparison_metrics, send_comparison

ENVIRONMENT = {"git_commit": "c0ffee-dirty"}
N = 300


@pytest.fixture
def build(finished_record, tmp_path):
    """Compares runs whose users' NDCG@10 is moved by the given amounts; writes it too."""

    def make(*gains, ids=(None, None, None)):
        noise = (np.random.default_rng(seed).normal(0.3, 0.05, size=N) for seed in range(3))
        runs = [
            judged_run(
                name, {"ndcg@10": gain + base}, run_id=run_id, dataset=finished_record.dataset
            )
            for name, gain, run_id, base in zip("abc", (0.0, *gains), ids, noise, strict=False)
        ]
        comparison = compare(runs)
        write_comparison(comparison, tmp_path / comparison.name)
        return comparison, tmp_path / comparison.name

    return make


@pytest.fixture
def send(store, build):
    """Sends a comparison of runs moved by the given amounts."""

    def run(*gains, **changes):
        comparison, directory = build(*gains, ids=changes.pop("ids", (None, None, None)))
        given = {"tracking_uri": store, "environment": ENVIRONMENT} | changes
        return comparison, send_comparison(comparison, directory, **given)

    return run


def test_a_comparison_is_a_run_of_its_own(send, client):
    comparison, sent = send(0.1)
    run = client.get_run(sent.run_id)
    tags = run.data.tags
    assert (run.info.run_name, run.info.status) == (comparison.name, "FINISHED")
    assert tags["bookends.kind"] == "comparison"
    assert tags["bookends.verdict"] == "b: better"
    assert tags["bookends.dataset"] == comparison.reference.fingerprint
    assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.dirty"]) == (
        "c0ffee",
        "True",
    )
    assert tags["mlflow.note.content"].startswith("**b is better than a on NDCG@10.**")
    assert "| NDCG@10 | better |" in tags["mlflow.note.content"]


def test_its_data_set_is_that_of_the_runs_and_what_they_were_judged_on(send, client):
    comparison, sent = send(0.1)
    (held,) = client.get_run(sent.run_id).inputs.dataset_inputs
    assert held.dataset.digest == comparison.reference.fingerprint
    assert held.dataset.name == "sample/books.csv+users.csv"
    assert [tag.value for tag in held.tags] == ["evaluation"]


def test_it_names_the_runs_it_compares_and_stands_beside_them(send, client):
    experiment_id = client.create_experiment("theirs")
    ids = [client.create_run(experiment_id).info.run_id for _ in range(2)]
    _, sent = send(0.1, ids=ids)
    tags = client.get_run(sent.run_id).data.tags
    assert (tags["bookends.reference_run"], tags["bookends.compared_runs"]) == tuple(ids)
    assert sent.experiment_id == experiment_id


def test_its_metrics_are_the_differences(send, client):
    comparison, sent = send(0.1)
    metrics = client.get_run(sent.run_id).data.metrics
    found = comparison.pairs[0].headline
    assert metrics["difference/ndcg_at_10"] == found.comparison.difference
    assert metrics["difference_ci_low/ndcg_at_10"] == found.comparison.interval[0]
    assert metrics["p_corrected/ndcg_at_10"] == found.p_corrected
    assert metrics["comparison/users"] == N


def test_several_runs_have_metrics_of_their_own(build):
    comparison, _ = build(0.1, -0.1)
    metrics = comparison_metrics(comparison)
    assert metrics["difference of b/ndcg_at_10"] > 0.05
    assert metrics["difference of c/ndcg_at_10"] < -0.05


def test_its_report_and_tables_are_artifacts(send, client):
    _, sent = send(0.1)
    held = {found.path for found in client.list_artifacts(sent.run_id)}
    assert held >= {"comparison.json", "comparison.md", "comparison.html", "tables", "figures"}


def test_the_same_comparison_is_logged_once(send, client, contents):
    _, first = send(0.1)
    before = contents(client, first.run_id)
    _, again = send(0.1)
    assert again == first
    assert contents(client, first.run_id) == before


def test_a_run_that_mlflow_opened_is_used(send, store, client, monkeypatch):
    opened = client.create_run(client.create_experiment("projects")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    comparison, sent = send(0.1, tracking_uri=None)
    assert sent.run_id == opened
    assert client.get_run(opened).info.run_name == comparison.name
