"""The end of sweeps on the checkerboard, and what MLflow is told of them."""

import dataclasses
import os

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from experiments.cli import main
from experiments.sweep.delivery import deliver_trials, send_sweep
from experiments.sweep.finish import choose, finalists_of, finish, retrain
from experiments.sweep.request import read_settings
from experiments.sweep.stage import requeue_lost
from recsys.errors import BookendsError, ConfigError, TrackingError
from recsys.reporting.formatting import number
from sweeps.on_test import on_test
from sweeps.record import SweepRecord
from tests import forked
from tracking.processes import Owner


@pytest.fixture
def client(sweep_shop):
    """Of the store that sweeps are tracked in."""
    return MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")


def end(session, work):
    """Run what is left and finish."""
    work(session)
    finish(session)
    return SweepRecord.read(session.directory.path)


def test_a_constraint_that_nothing_keeps_leaves_nothing_to_win(open_sweep, work):
    session = open_sweep(constraints=["model_bytes<=1"], n_trials=2)
    with pytest.raises(BookendsError, match="no trial was completed that keeps to the constraints"):
        end(session, work)


def test_finalists_are_named_on_validation_and_test_is_opened_once(open_sweep, work, sweep_shop):
    session = open_sweep(n_trials=6, finalists=2, finalist_seeds=2, baseline_trials=1)
    record = end(session, work)
    assert len(record.finalists.rows) in (2, 3)  # the default is one of them
    assert any(row.is_default for row in record.finalists.rows)
    assert record.finalists.seeds == (1, 2)
    assert [look.trial for look in record.test_looks] == [record.finalists.winner]
    (look,) = record.test_looks
    assert {"popularity", "item_knn", "ease"} < set(look.baselines)
    assert 0 <= look.metrics["ndcg@10"] <= 1
    assert list(record.parts) == ["start-up", "finalists", "baselines", "look at test"]
    assert 0 < sum(record.parts.values()) <= record.seconds
    assert end(session, work).test_looks == record.test_looks
    assert not list(session.directory.finalists_dir.glob("*.npz"))
    # best.yaml is a configuration that a run takes
    best = read_settings(
        sweep_shop / "space.yaml", session.directory.best_path, [], {"n_trials": 1}
    ).base
    winner = record.trial(record.finalists.winner)
    assert best["training"]["learning_rate"] == winner.params["training.learning_rate"]
    # what the best epoch said on validation is the mean of the values kept: histories hold train
    # items alone
    for trained in session.stage("finalists").trials():
        notes = trained.user_attrs
        values = pd.read_parquet(session.directory.per_user_path(notes["trial"], notes["seed"]))
        assert values["ndcg@10"].mean() == pytest.approx(trained.value, rel=1e-12)


def test_a_configuration_that_was_run_twice_is_one_finalist(open_sweep, work):
    session = open_sweep(n_trials=4, finalists=3)
    for _ in range(3):
        session.main.queue({"training.learning_rate": 0.01, "training.warmup_steps": 1})
    assert work(session) == 4
    rates = [
        trial.params["training.learning_rate"] for trial in choose(session.record("running"), 3)
    ]
    assert sorted(rates) == [0.01, session.base.training.learning_rate]


def test_a_new_winner_opens_test_again_and_that_is_counted(open_sweep, work):
    options = {"finalists": 1, "finalist_seeds": 1, "name": "mine"}
    assert len(end(open_sweep(n_trials=1, **options), work).test_looks) == 1
    second = end(open_sweep(n_trials=10, **options), work)
    chosen = [row.trial for row in second.finalists.rows]
    assert len(second.test_looks) == (1 if chosen == [0] else 2)


def test_a_training_of_the_last_round_that_failed_leaves_the_others(open_sweep, work, monkeypatch):
    session = open_sweep(n_trials=4, finalists=1, finalist_seeds=2)

    def lose_one(session, stage, _title):
        work(session, stage)
        next(session.directory.finalists_dir.glob("*seed-1.parquet")).unlink()

    monkeypatch.setattr("experiments.sweep.finish.run_stage", lose_one)
    record = end(session, work)
    assert any(None in row.values for row in record.finalists.rows)


@pytest.mark.slow
def test_a_sweep_leaves_a_parent_its_trials_and_the_winners_run(sweep_shop, client, bookends):
    done = bookends(
        "sweep", "--space", "space.yaml", "--config", "config.yaml", "--trials", "5",
        "--workers", "2", "--finalists", "1", "--finalist-seeds", "1", "--name", "first",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    directory = sweep_shop / "artifacts" / "sweeps" / "first"
    record = SweepRecord.read(directory)
    assert record.status == "finished" and len(record.trials) == 5
    assert {trial.worker for trial in record.trials} <= {"worker-0", "worker-1"}
    assert record.best_run_name == "first-best"
    parts = ["start-up", "search", "finalists", "baselines", "look at test", "final run"]
    assert list(record.parts) == parts
    assert sum(record.parts.values()) <= record.seconds
    assert [look.purpose for look in record.test_looks][-1] == "winner, re-run in full"
    assert (sweep_shop / "artifacts" / "runs" / "first-best" / "report.md").is_file()
    for line in ("best.yaml", "mlflow ui", "trial   0  complete"):
        assert line in done.stdout
    (experiment,) = [e for e in client.search_experiments() if e.name == "bookends"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs["first"]
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    heads = "".join(note.splitlines()[2].split())
    assert heads.startswith("|metric|winner|default|popularity|item_knn|ease|")
    best = record.test_looks[0].metrics["ndcg@10"]
    assert f"| ndcg@10 on test, one fresh seed | {number(best)} |" in note
    in_full = record.test_looks[1].metrics["ndcg@10"]
    assert f"| ndcg@10 on test, run in full | {number(in_full)} |" in note
    for text in (done.stdout, note, (directory / "sweep_report.md").read_text()):
        assert on_test(record) in text.replace("\n", " ")
    assert parent.data.metrics["test/ndcg_at_10"] == best
    assert runs["first-best"].data.metrics["test/ndcg_at_10"] == in_full
    history = client.get_metric_history(parent.info.run_id, "sweep/n_complete")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]
    child = runs["trial 0 default"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.status, child.data.tags["optuna.state"]) == ("FINISHED", "COMPLETE")
    assert len(client.get_metric_history(child.info.run_id, "val/ndcg_at_10")) == 3
    assert runs["first-best"].info.status == "FINISHED"


@pytest.mark.slow
def test_workers_begun_as_a_users_are_run_the_trials(sweep_shop, bookends):
    """From a process that imports for this sweep alone; in other tests one does for all."""
    done = bookends(
        "sweep", "--space", "space.yaml", "--config", "config.yaml", "--trials", "4",
        "--workers", "2", "--finalists", "0", "--no-final", "--baseline-trials", "0",
        "--name", "begun",
        forks_children=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = SweepRecord.read(sweep_shop / "artifacts" / "sweeps" / "begun")
    assert (record.status, len(record.in_state("complete"))) == ("finished", 4)


def test_the_sweeps_run_shows_its_origin_and_what_is_known_from_the_start(open_sweep, client):
    session = open_sweep(tracking=True, name="told")
    run = client.get_run(session.tracked.run_id)
    popular = session.state.baselines["popularity"]["ndcg@10"]
    assert run.data.tags["mlflow.source.name"] == "bookends sweep"
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == [session.prepared.fingerprint]
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("The sweep searched 2 settings (learning rate and warmup steps)")
    assert f"| ndcg@10 on validation |  |  | {number(popular)} |" in note
    assert set(session.state.baselines) == {"popularity"}  # others once the search has ended
    # on validation, which cannot be taken for a run's popularity on test
    assert run.data.metrics["popularity_val/ndcg_at_10"] == popular
    assert not [key for key in run.data.metrics if key.startswith("popularity/")]


def test_mlflow_is_told_each_number_of_trials_and_baselines_once(open_sweep, work, client):
    """Every user has one held-out item: precision and hit rate are recall, MAP is MRR."""
    options = {"n_trials": 2, "finalists": 1, "finalist_seeds": 1, "baseline_trials": 1}
    session = open_sweep("--evaluation.metrics_k", "[5, 10]", tracking=True, **options)
    end(session, work)
    told = {"ndcg_at_10", "recall_at_10", "mrr_at_10"}
    parent = client.get_run(session.tracked.run_id).data.metrics
    for group in ("popularity_val/", "ease_val/"):
        assert {k.removeprefix(group) for k in parent if k.startswith(group)} == told
    on_test = {k.removeprefix("test/") for k in parent if k.startswith("test/")}
    assert on_test >= told | {"ndcg_at_5"} and not on_test & {"precision_at_10", "map_at_5"}
    children = client.search_runs(
        [session.tracked.experiment_id], "tags.`optuna.trial` != ''", max_results=10
    )
    for group in ("val/", "best/"):
        shown = {k.removeprefix(group) for r in children for k in r.data.metrics if group in k}
        assert shown == told


def test_an_objective_that_equals_another_metric_is_the_one_that_mlflow_is_told(
    open_sweep, work, client
):
    session = open_sweep(tracking=True, objectives=["precision@10"], n_trials=1)
    work(session)
    (run,) = client.search_runs([session.tracked.experiment_id], "tags.`optuna.trial` = '0'")
    shown = {key for key in run.data.metrics if key.startswith("val/")}
    assert shown == {"val/precision_at_10", "val/ndcg_at_10", "val/mrr_at_10"}


def test_a_sweep_goes_on_in_its_store_wherever_one_stands(
    open_sweep, sweep_shop, monkeypatch, tmp_path_factory
):
    settings = yaml.safe_load((sweep_shop / "config.yaml").read_text())
    settings["experiment"].pop("tracking_uri")
    (sweep_shop / "config.yaml").write_text(yaml.safe_dump(settings))
    first = open_sweep(tracking=True, name="mine")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    again = open_sweep(tracking=True, name="mine")
    assert again.tracked.uri == first.tracked.uri == f"sqlite:///{sweep_shop}/mlflow.db"
    assert again.tracked.run_id == first.tracked.run_id
    assert not (elsewhere / "mlflow.db").exists()


def test_pruned_and_failed_trials_are_told_apart_in_the_tracker(open_sweep, client, work, space):
    space = space | {"training.learning_rate": {"choice": [0.02, 1e-5, 1e300]}}
    options = {"sampler": "grid", "n_trials": 30, "pruner_startup_trials": 1}
    session = open_sweep(tracking=True, space=space, name="states", **options)
    work(session)
    by_trial = {
        int(run.data.tags["optuna.trial"]): run
        for run in client.search_runs([session.tracked.experiment_id])
        if "optuna.trial" in run.data.tags
    }
    wanted = {
        "complete": ("FINISHED", "COMPLETE", "finished"),
        "pruned": ("KILLED", "PRUNED", "pruned"),
        "failed": ("FAILED", "FAIL", "failed"),
    }
    records = session.main.records()
    assert {record.state for record in records} == set(wanted)
    for record in records:
        run = by_trial[record.number]
        tags = run.data.tags
        assert (
            run.info.status,
            tags["optuna.state"],
            tags["bookends.status"],
        ) == wanted[record.state]
        epochs = client.get_metric_history(run.info.run_id, "train/loss")
        assert len(epochs) == record.epochs
        assert record.mlflow_run_id == run.info.run_id
        assert record.overhead_seconds > 0
        assert bool(record.error) == (record.state == "failed")


def shown(client, session):
    """What MLflow shows of each trial: status, state, parameters and metrics."""
    found = {}
    for run in client.search_runs([session.tracked.experiment_id], max_results=100):
        if run.data.tags.get("mlflow.parentRunId") == session.tracked.run_id:
            tags = run.data.tags
            ends = (run.info.status, tags["optuna.state"], tags["bookends.status"])
            kept = {key: v for key, v in run.data.metrics.items() if key.startswith("trial/")}
            trial = (tags["optuna.study"], tags["optuna.trial"])
            assert trial not in found and "bookends.reason" not in tags
            found[trial] = (run.info.run_name, ends, run.data.params, kept)
    return found


def test_what_the_store_missed_of_trials_is_delivered_and_what_is_there_stays(
    open_sweep, client, work
):
    session = open_sweep(tracking=True, n_trials=4, finalists=1, finalist_seeds=1)
    work(session)
    record = session.record("running")
    retrain(session, finalists_of(record, choose(record, 1)))
    before = shown(client, session)
    assert {study for study, _ in before} == {session.main.name, f"{session.main.name}.finalists"}
    missed, hanging, killed, *_ = [
        run.info.run_id
        for run in client.search_runs([session.tracked.experiment_id], max_results=100)
        if "optuna.trial" in run.data.tags and run.info.status == "FINISHED"
    ]
    client.delete_run(missed)
    client.update_run(hanging, "RUNNING")
    client.set_tag(hanging, "optuna.state", "RUNNING")
    client.set_tag(killed, "bookends.status", "killed")  # by 'bookends reconcile'
    client.set_tag(killed, "bookends.reason", "its process is gone")
    client.set_terminated(killed, "FAILED")
    for _ in range(2):
        deliver_trials(session)
        assert shown(client, session) == before


def test_a_sweep_that_no_store_saw_is_sent_whole_once(
    open_sweep, sweep_shop, client, work, monkeypatch
):
    tracked = open_sweep(tracking=True, name="seen", n_trials=4)
    unseen = open_sweep(name="unseen", n_trials=4)
    for session in (tracked, unseen):
        work(session)
    with pytest.raises(ConfigError, match=f"must have ended, but process {os.getpid()} on .* runs"):
        send_sweep(unseen.directory.path)
    unseen.record("interrupted", "received SIGINT").write(unseen.directory.path)
    unseen.storage.close()
    uri = f"sqlite:///{sweep_shop}/mlflow.db"
    for _ in range(2):
        unseen.tracked = send_sweep(unseen.directory.path, tracking_uri=uri)
        assert not unseen.tracked.failures
        sent, live = (list(shown(client, each).values()) for each in (unseen, tracked))
        for *_, metrics in sent + live:
            metrics.pop("trial/train_seconds", None)
        assert sent == live
        parent = client.get_run(unseen.tracked.run_id)
        assert (parent.info.status, parent.data.tags["bookends.status"]) == (
            "KILLED",
            "interrupted",
        )
        assert len(client.get_metric_history(parent.info.run_id, "sweep/n_ended")) == 4
    again = open_sweep(name="unseen", n_trials=4)
    assert again.state.tracking is None  # the store it was sent to is not its own
    again.record("interrupted", "received SIGINT").write(again.directory.path)

    def refuse(*_):
        raise MlflowException("no more room")

    monkeypatch.setattr("tracking.sweep.deliver", refuse)
    with pytest.raises(TrackingError, match="could not take the trials it lacks; the same command"):
        send_sweep(unseen.directory.path, tracking_uri=uri)
    monkeypatch.setattr("tracking.remote_run.RemoteRun.send_settings", refuse)
    result = CliRunner().invoke(main, ["track", str(unseen.directory.path), "--tracking-uri", uri])
    assert result.exit_code == 2 and "could not be sent (no more room)" in result.output


def test_of_a_sweep_that_was_killed_what_ended_is_sent_and_the_rest_ended(open_sweep, client, work):
    session = open_sweep(tracking=True, n_trials=2)
    work(session)
    before = shown(client, session)
    ids = [client.get_run(trial.mlflow_run_id) for trial in session.main.records()]
    missed, lost = (run.info.run_id for run in ids)
    client.update_run(missed, "RUNNING")  # completed while the store was away
    dead = dataclasses.replace(Owner.current(), process_start="0")
    for key, value in (dead.to_tags() | {"optuna.trial": "2"}).items():
        client.set_tag(lost, key, value)  # no trial that ended
    client.update_run(lost, "RUNNING")
    session.keep(owner=dead)
    session.storage.close()
    session.tracked = send_sweep(session.directory.path)
    parent, run = client.get_run(session.tracked.run_id), client.get_run(lost)
    for each in (parent, run):
        assert (each.info.status, each.data.tags["bookends.status"]) == ("FAILED", "killed")
    client.delete_run(lost)
    assert shown(client, session) == before


def test_a_trial_whose_process_died_is_marked_in_the_study_and_in_the_tracker(
    open_sweep, sweep_shop, client, work
):
    session = open_sweep(tracking=True, n_trials=2)
    name, url = session.directory.name, session.storage.url
    script = (
        "import os, signal\n"
        "from experiments.sweep import worker\n"
        "worker.train = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"worker.join(worker.Assignment({name!r}, {url!r}, 'search'), {{}})\n"
    )
    done = forked.run("-c", script, cwd=sweep_shop)
    assert done.returncode == -9
    assert [t.state for t in session.main.records()] == ["running"]
    requeue_lost(session, session.main)
    (lost,) = session.main.records()
    assert (lost.state, lost.error) == ("failed", "its process was lost")
    run = client.get_run(lost.mlflow_run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["optuna.state"] == "FAIL"
    assert run.data.tags["bookends.status"] == "killed"
    assert work(session) == 2
    retry = session.main.records()[1]
    assert retry.retry_of == 0 and retry.params == lost.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sampler", "tpee"), "'sampler': must be one of tpe"),
        (("--objective", "ndcg@7"), "got 'ndcg@7'"),
        (("--trainig.num_epochs", "3"), "did you mean 'training.num_epochs'?"),
        (("--name", ".."), "not of dots alone, got '..'"),
        (("--name", "a/b"), "'--name' must be made of letters"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(sweep_shop, arguments, message):
    command = ["sweep", "--space", "space.yaml", "--config", "config.yaml", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARN"))]
    assert len(lines) == 1 and lines[0].startswith("bookends: ") and message in lines[0]


def test_a_worker_of_no_study_is_told_so(sweep_shop):
    command = ["sweep", "worker", "--study", "none", "--storage", "journal.log"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "has no study 'none'" in done.stderr


@pytest.mark.parametrize("race", [True, False])
def test_a_finalist_that_clearly_lost_gets_no_more_seeds(open_sweep, work, race, monkeypatch):
    """What users have of trial 1 is made less by 0.3 as soon as it is there."""
    space = {"training.learning_rate": {"choice": [0.02, 0.01]}}
    options = {"sampler": "grid", "n_trials": 2, "finalists": 2, "finalist_seeds": 4}
    session = open_sweep(space=space, race=race, **options)
    done = set()

    def run_stage(session, stage, _title):
        work(session, stage)
        for path in set(session.directory.finalists_dir.glob("trial-1-*.parquet")) - done:
            frame = pd.read_parquet(path)
            frame.assign(**{"ndcg@10": frame["ndcg@10"] - 0.3}).to_parquet(path)
            done.add(path)

    monkeypatch.setattr("experiments.sweep.finish.run_stage", run_stage)
    record = end(session, work)
    trained = [t.user_attrs["trial"] for t in session.stage("finalists").trials()]
    assert (trained.count(0), trained.count(1)) == (4, 2 if race else 4)
    assert record.finalists.winner == 0
    assert record.finalists.n_spared == (2 if race else 0)
    assert record.finalists.comparisons[0].is_clear
    report = (session.directory.path / "sweep_report.md").read_text()
    assert ("2 of 8 trainings were spared" in report) == race
    assert end(session, work).finalists == record.finalists  # decided anew, and the same
