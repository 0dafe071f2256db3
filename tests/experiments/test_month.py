"""Retraining next month: a champion of last month's data, and candidates of this month's."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.cli import said as bookends

IDS_ALONE = ("--model.item_encoder.fusion=identity",)
QUICK = (
    "--model.user_encoder.id_embedding.params.embedding_dim=8",
    "--data.min_user_interactions=1",
    "--data.min_item_interactions=1",
    "--data.feature_params.title=false",
    "--training.batch_size=4",
    "--training.learning_rate=0.02",
    "--evaluation.bootstrap_samples=100",
)


@pytest.fixture(scope="module")
def shop(board, tmp_path_factory, copy_store):
    """A store with a champion of month 1 and two runs of month 2, one of them hardly trained.

    In month 1 ten of the forty users and a third of the sixty items are not there yet.
    """
    place = tmp_path_factory.mktemp("months")
    copy_store(place)
    books, users = (pd.read_csv(path, dtype=str) for path in board.write(place))
    before = Path.cwd()
    os.chdir(place)
    try:
        old_items = set(books["item_id"].iloc[20:])
        old_users = set(users["user_id"].drop_duplicates().sort_values().iloc[10:])
        is_old = users["item_id"].isin(old_items) & users["user_id"].isin(old_users)
        months = {1: (books[books["item_id"].isin(old_items)], users[is_old]), 2: (books, users)}
        for month, frames in months.items():
            for name, frame in zip(("books", "users"), frames, strict=True):
                frame.to_csv(f"{name}{month}.csv", index=False)
        for run, month, epochs in (("first", 1, 4), ("second", 2, 4), ("poor", 2, 1)):
            files = (
                f"--data.books_path=books{month}.csv",
                f"--data.interactions_path=users{month}.csv",
            )
            rate = ("--training.learning_rate=1e-6", *IDS_ALONE) if run == "poor" else ()
            settings = (*QUICK, *rate, f"--training.num_epochs={epochs}")
            code, output = bookends("run", *files, *settings, f"--experiment.run_name={run}")
            assert code == 0, output
        code, output = bookends("register", "first")
        assert code == 0, output
        yield place
    finally:
        os.chdir(before)


def test_the_months_data_differ_and_the_comparison_says_how(shop):
    code, output = bookends("compare", "second", "first", "--name", "months")
    assert code == 0, output
    assert "first is worse than second" in output
    page = (shop / "artifacts" / "comparisons" / "months" / "comparison.md").read_text()
    assert "first was judged on the test of second" in page
    assert "How the data moved" in page
    counts = {
        row.split("|")[1].strip(): row.split("|")[2:] for row in page.splitlines() if "|" in row
    }
    assert [int(cell.replace(",", "")) for cell in counts["users"][:5]] == [30, 40, 30, 0, 10]
    assert [int(cell.replace(",", "")) for cell in counts["items"][:5]] == [40, 60, 40, 0, 20]


def test_the_summary_of_a_job_holds_the_run_against_a_champion_of_older_data(shop):
    code, output = bookends("report", "artifacts/runs/second", "--summary")
    assert code == 0, output
    assert "The champion is version 1 of bookends, first. first is worse than second" in output
    assert "first was judged on the test of second" in output
    assert "10 of 40 users" in output  # new in the second month


def test_a_worse_model_of_new_data_is_refused_and_a_better_one_promoted_without_force(shop):
    client = MlflowClient(f"sqlite:///{shop}/mlflow.db")
    code, output = bookends("register", "poor")
    assert (code, client.get_model_version_by_alias("bookends", "champion").version) == (1, 1)
    assert "failed: better than version 1" in output
    code, output = bookends("register", "second")
    assert (code, client.get_model_version_by_alias("bookends", "champion").version) == (0, 3)
    tags = client.get_model_version("bookends", "3").tags
    found = json.loads(tags["bookends.details"])["criteria"]
    assert "40 test users, 30 of them known to it" in found["same_test"]["found"]
    assert found["new_items"]["passed"] and found["new_users"]["passed"]
    assert "10 of 40 users, 20 of 60 items" in tags["bookends.drift"]


def test_lists_of_another_tool_are_judged_by_the_same_test(shop, board):
    withheld = pd.DataFrame(list(board.withheld.items()), columns=["user_id", "item_id"])
    withheld.assign(rank=1).to_csv("perfect.csv", index=False)
    code, output = bookends("compare", "poor", "perfect.csv", "--no-track")
    assert code == 0, output
    assert "perfect is better than poor on NDCG@10" in output
    assert ": 100.00 against" in output
    code, output = bookends("compare", "perfect.csv", "poor")
    assert code == 2
    assert "the first of what is compared must be a run" in output


def test_a_candidate_must_beat_given_lists_too(shop, board):
    withheld = pd.DataFrame(list(board.withheld.items()), columns=["user_id", "item_id"])
    withheld.assign(score=1.0).to_csv("best.csv", index=False)
    code, output = bookends("register", "poor", "--against", "best.csv", "--dry-run")
    assert code == 1
    assert "better than best.csv" in output.split("failed")[-1]
