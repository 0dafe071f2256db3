"""What made the difference between two runs, in worlds where it is known."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.bisect.code import why_not_crossed
from recsys.reporting.record import RunRecord
from tests import cli
from tracking.past_runs import read_run
from tracking.run_list import list_runs

ROOT = Path(__file__).parents[2]
CRIPPLED = ("--training.learning_rate", "1e-9")
LESS_DATA = ("--data.interactions_limit", "1150")  # of 1,200


@pytest.fixture(scope="module")
def shop(tmp_path_factory, board, board_settings, copy_store):
    """A place for runs on the checkerboard by ids alone, which a model has to learn."""
    place = tmp_path_factory.mktemp("bisect")
    ids = {"type": "embedding", "params": {"embedding_dim": 8}}
    user = {"id_embedding": ids, "fusion": "identity", "history": {"pooling": "none"}}
    training = {"examples": "pairs", "batch_size": 64, "num_epochs": 4, "learning_rate": 0.05}
    settings = dict(board_settings) | {
        "model": {"popularity": False, "user_encoder": user},
        "training": training | {"warmup_steps": 1, "early_stopping": {"patience": None}},
        "experiment": {"tracking": False, "tracking_uri": copy_store(place)},
    }
    (place / "config.yaml").write_text(yaml.safe_dump(settings))
    rng, users = np.random.default_rng(0), board.interactions.to_pandas()
    users["item_id"] = [f"b{item:04d}" for _ in range(40) for item in rng.permutation(60)[:30]]
    users.to_csv(place / "noise.csv", index=False)
    return place


@pytest.fixture
def bookends(shop, monkeypatch):
    """Runs a command in the shop, which is in no repository."""
    monkeypatch.chdir(shop)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(shop.parent))
    return cli.bookends


@pytest.fixture
def made(bookends, shop):
    """Gives the directory of a run, made once."""

    def make(name, *overrides):
        path = shop / "artifacts" / "runs" / name
        if not path.exists():
            place = ("--experiment.runs_dir", path.parent, "--experiment.run_name", name)
            result = bookends("run", "--config", shop / "config.yaml", *place, *overrides)
            assert result.exit_code == 0, result.output
        return path

    return make


@pytest.fixture
def bisect(bookends):
    """Bisects two runs; gives what was printed, the directory and what was found."""

    def run(old, new, *options):
        result = bookends("bisect", old, new, *options)
        assert result.exit_code == 0, result.output
        (path,) = Path("artifacts/bisects").glob(f"{new.name}-against-{old.name}-*")
        return result.output, path, json.loads((path / "bisect.json").read_text())

    return run


def with_commit(source, place, commit, **training):
    """A copy of a run that says it was made by a commit and settings."""
    shutil.copytree(source, place)
    record = RunRecord.read(place)
    config = record.config | {"training": record.config["training"] | training}
    environment = record.environment | {"git_commit": commit}
    dataclasses.replace(record, run_name=place.name, config=config, environment=environment).write(
        place
    )
    return place


def shares_of(found):
    whole = found["difference"]["value"]
    return {name: share["value"] / whole for name, share in found["shares"].items()}


def test_a_crippled_model_is_the_share_of_the_settings(made, bisect, shop):
    old, new = made("good"), made("crippled", *CRIPPLED, *LESS_DATA)
    printed, path, found = bisect(old, new)
    assert found["difference"]["value"] < -0.3
    assert shares_of(found) == pytest.approx({"settings": 1, "data": 0}, abs=0.1)
    assert found["shares"]["settings"]["interval"][1] < 0
    assert [cell["given"] for cell in found["cells"]] == [True, False, False, True]
    assert {row["name"]: row["factor"] for row in found["differing"]} == {
        "training.learning_rate": "settings",
        "data.interactions_limit": "data",
    }
    for text in (printed, (path / "bisect.md").read_text()):
        assert "crippled is worse than good" in text and "Settings made −" in text
    assert "Code cannot be crossed: the commit of good is not known." in printed
    crossed = RunRecord.read(path / "runs" / found["cells"][2]["run"])
    assert crossed.setting("data.interactions_limit") == 1150
    assert crossed.setting("training.learning_rate") == 0.05

    store = yaml.safe_load((shop / "config.yaml").read_text())["experiment"]["tracking_uri"]
    rows = list_runs(store, "bookends", filter_text=f"tags.bisect = '{found['name']}'")
    trained = {cell["run"] for cell in found["cells"] if not cell["given"]}
    assert {row.name for row in rows} == trained and len(trained) == 2

    again, _, found_again = bisect(old, new)  # and nothing is trained
    assert "epoch" in printed and "epoch" not in again
    assert found_again == found


def test_files_without_any_pattern_are_the_share_of_the_data(made, bisect, shop):
    noise = ("--data.interactions_path", shop / "noise.csv", "--training.weight_decay", "1e-5")
    printed, _, found = bisect(made("good"), made("noisy", *noise), "--no-track")
    assert found["difference"]["value"] < -0.3
    assert shares_of(found) == pytest.approx({"settings": 0, "data": 1}, abs=0.1)
    assert "The contents of the data files differ." in printed


def test_on_the_same_test_the_data_are_what_was_learned_from_them(made, bisect, shop):
    """Models of noise are as bad on a test of noise as on one of the checkerboard; not so ours."""
    noise = ("--data.interactions_path", shop / "noise.csv", "--training.weight_decay", "1e-5")
    old, new = made("noisy", *noise), made("good")
    _, _, found = bisect(old, new, "--no-track", "--same-test")
    users = pd.read_parquet(new / "per_user.parquet")
    left = found["cells"][-1]["users"]
    assert {cell["users"] for cell in found["cells"]} == {left}
    assert 10 < left < len(users)  # the noise holds some of their test items
    assert shares_of(found) == pytest.approx({"settings": 0, "data": 1}, abs=0.1)
    assert found["in_words"].startswith("On the test of good, good is better than noisy")
    test = {tuple(row) for row in pd.read_parquet(new / "held_out.parquet").to_numpy()}
    seen = pd.read_csv(shop / "noise.csv", dtype=str)
    trained = set(map(tuple, seen[["user_id", "item_id"]].to_numpy()))
    held = set(map(tuple, pd.read_parquet(old / "held_out.parquet").to_numpy()))
    assert left == len(test - (trained - held))


def test_seeds_tell_how_far_they_move_a_share_and_whose_code_trained_them(made, bisect):
    """The repository has no such commit, so that the present code has to do."""
    runs = {"good": (), "slow": CRIPPLED}
    old, new = (
        with_commit(made(name, *words), made(name).with_name(f"f00d-{name}"), "f00d")
        for name, words in runs.items()
    )
    printed, path, found = bisect(old, new, "--no-track", "--seeds", 2)
    assert shares_of(found) == {"settings": 1}
    seeds = sorted(RunRecord.read(run).setting("experiment.seed") for run in path.glob("runs/*"))
    assert seeds == [1, 1]
    means = [
        [pd.read_parquet(run / "per_user.parquet")["ndcg@10"].mean() for run in pair]
        for pair in ((old, new), sorted(path.glob("runs/*"), reverse=True))
    ]
    gains = [after - before for before, after in means]
    assert found["spread_over_seeds"]["settings"] == pytest.approx(np.std(gains, ddof=1))
    assert found["difference"]["value"] == pytest.approx(np.mean(gains))
    assert "seeds" in printed
    assert found["notices"][0] == "Code is no factor: both runs have commit f00d."
    assert "was trained by the present code" in found["notices"][1]


def test_settings_are_narrowed_down_to_the_one_that_makes_the_difference(made, bisect):
    others = "--training.batch_size 32 --training.num_epochs 5 --training.weight_decay 1e-6"
    new = made("many", *CRIPPLED, *others.split())
    printed, path, found = bisect(made("good"), new, "--no-track", "--narrow")
    assert len(found["differing"]) == 4
    assert found["culprit"] == ["training.learning_rate"]
    assert [step["high"] - step["low"] for step in found["steps"]] == [4, 2, 1]
    assert len(list(path.glob("runs/*"))) == 2
    said = "Of the settings training.learning_rate (0.05 to 1e-09) changes most"
    assert said in found["in_words"] and said in " ".join(printed.split())


@pytest.fixture(scope="module")
def two_commits(shop):
    """The packages at two commits; by the code of the first no model learns."""
    place = shop / "repository"
    place.mkdir()
    for package in ("recsys", "sweeps", "tracking", "experiments"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / ".gitignore", place)

    def git(*words):
        name = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        done = subprocess.run(
            ["git", *name, *words], check=True, capture_output=True, text=True, cwd=place
        )
        return done.stdout.strip()

    def commit():
        git("add", "-A")
        git("commit", "-qm", "code")
        return git("rev-parse", "HEAD")

    git("init", "-q")
    path = place / "recsys" / "training" / "optimizers.py"
    text = path.read_text()
    path.write_text(re.sub(r"config\.(embedding_)?learning_rate or 0\.0", "1e-9", text))
    assert path.read_text().count("1e-9") == 2
    first = commit()
    path.write_text(text)
    return place, first, commit()


@pytest.fixture
def repository(two_commits, bookends, monkeypatch):
    """The working directory is that repository."""
    monkeypatch.chdir(two_commits[0])
    return two_commits


@pytest.fixture
def past_run(made):
    """Gives a run of a name and commit."""
    run = read_run(made("good"))

    def build(name, commit):
        record = dataclasses.replace(run.record, environment={"git_commit": commit})
        return dataclasses.replace(run, name=name, record=record)

    return build


@pytest.mark.slow
def test_the_code_of_a_commit_is_run_from_a_checkout_of_it(made, bisect, repository):
    """The old run, made by code that does not learn, is like one with a step size of nothing."""
    place, first, second = repository
    learning = RunRecord.read(made("good")).config["training"]
    runs = place.parent / "artifacts" / "runs"
    old = with_commit(made("slow", *CRIPPLED), runs / "by-first", first, **learning)
    new = with_commit(made("longer", "--training.num_epochs", "5"), runs / "by-second", second)
    _, path, found = bisect(old, new, "--no-track")
    assert found["difference"]["value"] > 0.3
    assert shares_of(found) == pytest.approx({"settings": 0, "code": 1}, abs=0.1)
    by = {
        (cell["levels"]["settings"], cell["levels"]["code"]): RunRecord.read(
            path / "runs" / cell["run"]
        ).environment["git_commit"]
        for cell in found["cells"]
        if not cell["given"]
    }
    assert by == {("new", "old"): first, ("old", "new"): second}
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1
    assert found["notices"] == []
    assert "settings changed nothing" in found["in_words"]


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        (("same", "same"), "Code is no factor: both runs have commit same."),
        (("same-dirty", "same-dirty"), "with changes that were not committed and may differ"),
        (("one", "two-dirty"), "Code cannot be crossed: the repository here has no commit one"),
        (("{first}", "two-dirty"), "b was made by commit two with changes that were not committed"),
        ((None, "{first}"), "the commit of a is not known"),
        (("{first}", "{second}"), ""),
    ],
)
def test_why_code_is_no_factor_is_said(commits, said, repository, past_run):
    _, first, second = repository
    old, new = (
        past_run(name, commit and commit.format(first=first, second=second))
        for name, commit in zip("ab", commits, strict=True)
    )
    reason = why_not_crossed(old, new)
    assert said in reason and bool(said) == bool(reason)


def test_runs_that_do_not_differ_are_one_line(made, bookends):
    old = made("good")
    again = made("again", "--diagnostics.neighbor_k", "4")
    for new in (old, again):
        result = bookends("bisect", old, new, "--no-track")
        assert result.exit_code == 2 and len(result.output.splitlines()) == 1
        assert "runs must differ in settings, data or code, but 'good' and" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--metric", "ndcg@3"), "'--metric' must be one that every run has of each user"),
        (("--narrow",), "'--narrow' must have two settings or more to choose from"),
        (("--seeds", "0"), "x>=1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(made, bookends, options, said):
    old, new = made("good"), made("crippled", *CRIPPLED, *LESS_DATA)
    result = bookends("bisect", old, new, "--no-track", "--out", "nowhere", *options)
    assert result.exit_code == 2 and said in result.output
    assert not Path("nowhere").exists()


def test_files_that_have_changed_since_are_named_before_anything_is_trained(made, bookends, shop):
    shutil.copy(shop / "noise.csv", shop / "gone.csv")
    noise = ("--data.interactions_path", shop / "gone.csv", "--training.weight_decay", "1e-5")
    old, new = made("good"), made("gone", *noise)
    with (shop / "gone.csv").open("a") as file:
        file.write("\n")
    result = bookends("bisect", old, new, "--no-track", "--out", "nowhere")
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert "gone.csv: must be as run 'gone' read it" in result.output
    (shop / "gone.csv").unlink()
    assert "is not there" in bookends("bisect", old, new, "--no-track").output
