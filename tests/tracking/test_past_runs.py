import dataclasses

import pytest

from recsys.errors import ArtifactError, TrackingError
from recsys.reporting.record import RunRecord
from tracking import run_list
from tracking.mirror import mirror
from tracking.past_runs import find_run
from tracking.run_list import list_runs, mlflow_filter, order_by

LATER = "2026-01-03T03:04:05+00:00"


@pytest.fixture
def past(run_dir, finish, store):
    """A finished run in the store; gives its id."""
    finish(run_dir)
    return mirror(run_dir, store).run_id


@pytest.fixture
def add(tmp_path, finish, finished_record, store):
    """Sends another finished run with the given NDCG@10 (None: not evaluated)."""

    def build(name, ndcg, **changes):
        path = tmp_path / "elsewhere" / f"{name}-{len(list(tmp_path.glob('elsewhere/*')))}"
        path.mkdir(parents=True)
        model = {"means": {"ndcg@10": ndcg}}
        evaluation = dataclasses.replace(finished_record.evaluation, model=model)
        given = {"run_name": name, "evaluation": evaluation if ndcg is not None else None}
        finish(path, **(given | changes))
        return mirror(path, store).run_id

    return build


def names(rows):
    return [row.name for row in rows]


def test_a_directory_is_a_run_of_its_own(run_dir, finish):
    finish(run_dir)
    run = find_run(str(run_dir))
    assert (run.run_id, run.name, run.directory) == (None, run_dir.name, run_dir)
    assert run.record == RunRecord.read(run_dir)
    assert run.per_user["ndcg@10"].tolist() == [0.0, 0.5, 1.0]
    assert [table.title for table in run.tables.values()] == ["Segments"]


def test_a_tracked_directory_knows_its_run(past, run_dir, store):
    assert find_run(str(run_dir)).run_id == past
    assert find_run(str(run_dir), store).run_id == past
    assert find_run(str(run_dir), "sqlite:///another.db").run_id is None


@pytest.mark.parametrize("by", ["id", "prefix", "name"])
def test_a_run_comes_whole_from_the_store(past, run_dir, store, by):
    run = find_run({"id": past, "prefix": past[:6], "name": run_dir.name}[by], store)
    kept = find_run(str(run_dir))
    assert (run.run_id, run.name) == (past, run_dir.name)
    assert run.record == kept.record
    assert run.per_user.equals(kept.per_user)
    found, there = (
        [(name, table.columns, table.rows) for name, table in each.tables.items()]
        for each in (run, kept)
    )
    assert found == there


def test_a_run_knows_its_local_directory_only_while_that_holds_it(past, run_dir, store, client):
    client.set_tag(past, "bookends.run_dir", str(run_dir))
    assert find_run(past, store).directory == run_dir
    dataclasses.replace(RunRecord.read(run_dir), created=LATER).write(run_dir)
    assert find_run(past, store).directory is None


def test_a_name_of_several_runs_is_refused_with_their_ids(past, run_dir, store, add):
    other = add(run_dir.name, 0.1, created=LATER)
    with pytest.raises(TrackingError, match="means several") as refused:
        find_run(run_dir.name, store)
    assert past[:12] in str(refused.value) and other[:12] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["nobody", "abc", "abcdef", "0" * 32, "it's"])
def test_what_no_run_is_called_is_refused(past, store, text):
    with pytest.raises(TrackingError, match=f"run '?\"?{text}"):
        find_run(text, store)


def test_a_path_without_a_run_is_not_looked_for_in_the_store(tmp_path):
    with pytest.raises(ArtifactError, match="must be a run directory"):
        find_run(str(tmp_path / "gone"))


def test_a_run_of_something_else_is_refused(store, client):
    run_id = client.create_run("0", run_name="foreign").info.run_id
    with pytest.raises(TrackingError, match=r"holds no record\.json"):
        find_run(run_id, store)


def test_a_store_or_experiment_that_is_not_there_is_named_and_not_made(past, store, tmp_path):
    with pytest.raises(TrackingError, match="no such file"):
        list_runs(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(TrackingError, match=r"'nothing': must be in .* 'bookends'"):
        list_runs(store, "nothing")


def test_a_damaged_per_user_file_is_refused_and_a_missing_one_is_an_empty_frame(past, run_dir):
    (run_dir / "per_user.parquet").write_text("not parquet")
    with pytest.raises(ArtifactError, match=r"per_user\.parquet: must be a readable Parquet"):
        find_run(str(run_dir))
    (run_dir / "per_user.parquet").unlink()
    assert find_run(str(run_dir)).per_user.shape == (0, 0)


def test_a_row_says_what_the_run_was(past, store):
    (row,) = list_runs(store)
    found = row.measured("ndcg@10")
    assert (row.run_id, row.kind, row.status) == (past, "run", "finished")
    assert row.created.isoformat() == "2026-01-02T03:04:05+00:00"
    assert (found.value, found.low, found.high, found.split) == (0.3, 0.25, 0.35, "test")
    assert (row.measured("sampled_ndcg@10").value, row.measured("sampled_ndcg@10").low) == (
        0.5,
        None,
    )
    assert row.measured("nothing@10") is None


def test_the_best_on_test_comes_first_and_those_without_test_last(add, store):
    for name, ndcg in (("worse", 0.1), ("unjudged", None), ("best", 0.9), ("middle", 0.5)):
        add(name, ndcg)
    rows = list_runs(store)
    assert names(rows) == ["best", "middle", "worse", "unjudged"]
    assert rows[-1].measured("ndcg@10").split == "validation"
    assert names(list_runs(store, is_reversed=True))[:3] == ["worse", "middle", "best"]


def test_the_newest_or_the_quickest_can_come_first(add, store):
    add("quick", 0.1, seconds=1.0)
    add("slow", 0.2, seconds=9.0, created=LATER)
    assert names(list_runs(store, sort="date")) == ["slow", "quick"]
    assert names(list_runs(store, sort="run/seconds")) == ["quick", "slow"]
    with pytest.raises(TrackingError, match="'--sort' must be"):
        list_runs(store, sort="ndcg@99")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("ndcg@10>=0.5", ["best", "middle"]),
        ("ndcg@10 >= 0.1 and ndcg@10<0.9", ["middle"]),
        ("val/ndcg@10 > 2", []),
        ("attributes.run_name = 'middle'", ["middle"]),
        ("run/seconds<100 and tags.`bookends.status` = 'finished'", ["best", "middle"]),
    ],
)
def test_a_filter_takes_our_metrics_and_mlflows_syntax(add, store, given, found):
    add("best", 0.9)
    add("middle", 0.5)
    assert names(list_runs(store, filter_text=given)) == found


def test_a_filter_that_mlflow_does_not_take_is_refused_in_one_line(past, store):
    with pytest.raises(TrackingError, match="by the filter 'foo bar'") as refused:
        list_runs(store, filter_text="foo bar")
    assert "\n" not in str(refused.value)


def test_metrics_within_quotes_are_left_alone_and_the_order_of_time_is_turned_round():
    text = "tags.note = 'ndcg@10>1' and metrics.`val/recall_at_5` > 0"
    assert mlflow_filter(text) == text
    assert order_by("date") == ["attributes.start_time DESC"]
    assert order_by("date", is_reversed=True) == ["attributes.start_time ASC"]


def test_trials_sweeps_and_comparisons_are_listed_only_when_asked_for(past, store, client):
    experiment_id = client.get_run(past).info.experiment_id
    for tags in ({"optuna.trial": "3"}, {"bookends.kind": "sweep"}, {"bookends.kind": "run"}):
        client.create_run(experiment_id, tags=tags)
    assert len(list_runs(store)) == 2
    assert sorted(row.kind for row in list_runs(store, include_all=True)) == [
        *("run", "run", "sweep", "trial")
    ]


def test_a_long_list_is_read_page_by_page(past, store, client, monkeypatch):
    monkeypatch.setattr(run_list, "_PAGE", 2)
    experiment_id = client.get_run(past).info.experiment_id
    for number in range(6):
        client.create_run(experiment_id, run_name=f"run {number}")
    assert len(list_runs(store, limit=5)) == 5
    assert len(list_runs(store, limit=100)) == 7
