"""`bookends recommend`: lists for many users, as a file."""

import pandas as pd
import pytest

from benchmarks.serving_bundle import build_recommender
from experiments.recommend import Request, write_recommendations
from tests import cli, forked


@pytest.fixture(scope="module")
def recommender():
    return build_recommender(300, 100, 8, n_seen=20)


@pytest.fixture(scope="module")
def model(recommender, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model"
    recommender.save(path)
    return path


def bookends(*arguments):
    return cli.bookends("recommend", *arguments)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_all_users_are_answered_as_one_by_one(recommender, model, tmp_path, batch_size):
    out = tmp_path / "recs.parquet"
    done = bookends(
        "--model", model, "--all-users", "--k", 4, "--out", out, "--batch-size", batch_size
    )
    assert done.exit_code == 0, done.output
    assert "400 recommendations for 100 users" in done.output
    expected = recommender.recommend(recommender.users.ids.to_pylist(), k=4)
    found = pd.read_parquet(out)
    assert list(found["user_id"]) == list(expected["user_id"])
    assert list(found["item_id"]) == list(expected["item_id"])
    assert list(found["title"]) == list(expected["title"])


def test_unknown_users_whose_ids_nearly_match_are_told_with_how(model, tmp_path):
    users = tmp_path / "ids.txt"
    users.write_text("U00000007\nU00000001\n")
    done = bookends("--model", model, "--users", users, "--out", tmp_path / "recs.csv")
    assert "but 2 of these 2 ids are known in another case: 'U00000007' is 'u00000007'" in (
        done.output
    )


def test_named_users_are_answered_in_their_order_and_unknown_ones_counted(
    recommender, model, tmp_path
):
    users, out = tmp_path / "ids.txt", tmp_path / "deep" / "recs.csv"
    users.write_text("\ufeffu00000007\nnobody\n\n  u00000001 \nstranger\nu00000007\n")
    done = bookends("--model", model, "--users", users, "--k", 2, "--out", out, "--batch-size", 2)
    assert done.exit_code == 0, done.output
    assert "unknown users: 2 (first 'nobody'); they got the most popular items" in done.output
    asked = ["u00000007", "nobody", "u00000001", "stranger", "u00000007"]
    found, expected = pd.read_csv(out), recommender.recommend(asked, k=2)
    assert list(found["user_id"]) == list(expected["user_id"])
    assert list(found["item_id"]) == list(expected["item_id"])
    assert list(found["source"]) == list(expected["source"])


def test_filters_reach_the_lists(recommender, model, tmp_path):
    category, out = recommender.books.categories[0], tmp_path / "recs.parquet"
    bookends(
        *("--model", model, "--all-users", "--out", out, "--k", 3),
        *("--category", category, "--no-exclude-seen"),
    )
    expected = recommender.recommend(
        recommender.users.ids.to_pylist(), k=3, categories=[category], exclude_seen=False
    )
    assert list(pd.read_parquet(out)["item_id"]) == list(expected["item_id"])


def test_the_recall_of_an_index_is_shown(model, tmp_path):
    pytest.importorskip("usearch")
    done = bookends("--model", model, "--all-users", "--ann", "--out", tmp_path / "recs.csv")
    assert "of the exact lists of 10 items (worst of 100 sampled users:" in done.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "recs.json"}, "'--out' must end in .parquet or .csv, got 'recs.json'"),
        ({"--k": 301}, "'k' must be from 1 to 300, the catalogue, got 301"),
        ({"--k": 0}, "'k' must be from 1 to 300, the catalogue, got 0"),
        ({"--category": "Genre"}, "'categories' must name categories of the catalogue"),
        ({"--model": "nowhere"}, "nowhere: must be a bundle or run directory"),
        ({"--users": "none.txt"}, "none.txt: must be a file with a user's id on each line"),
        ({"--users": "blank.txt"}, "blank.txt: must have a user's id on a line at least"),
        ({"--users": "latin.txt"}, "latin.txt: must be UTF-8 text"),
        ({"--out": "file/recs.csv"}, "file/recs.csv: must be writable"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_leaves_no_file(
    model, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("u00000001\n")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "file").write_text("in the way")
    options = {"--model": model, "--users": "ids.txt", "--out": "recs.csv"} | changes
    before = sorted(tmp_path.iterdir())
    done = bookends(*(part for option in options.items() for part in option))
    assert done.exit_code == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("users", [[], ["--all-users", "--users", "ids.txt"]])
def test_either_some_or_all_users_must_be_asked_for(model, tmp_path, users):
    done = bookends("--model", model, "--out", tmp_path / "recs.csv", *users)
    assert done.exit_code == 2
    assert "give either --users FILE or --all-users" in done.output


def test_an_older_file_stays_until_the_new_one_is_whole(model, tmp_path, monkeypatch):
    out = tmp_path / "recs.csv"
    out.write_text("old")

    def stop(n_users, total):
        assert out.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recommendations(Request(str(model), out), stop)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_users(tmp_path):
    """The lists of 20,000 users would take 4 times what those of 5,000 take."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from experiments.recommend import Request, write_recommendations\n"
        "model, out, *lists = sys.argv[1:]\n"
        "for users in lists:\n"
        "    asked = Request(model, Path(out), Path(users), k=200, batch_size=500)\n"
        "    write_recommendations(asked, lambda *_: None)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    build_recommender(2000, 1000, 8).save(tmp_path / "model")
    lists = [tmp_path / "few.txt", tmp_path / "many.txt"]
    for users, n_users in zip(lists, (5_000, 20_000), strict=True):
        users.write_text("".join(f"u{number % 1000:08d}\n" for number in range(n_users)))
    words = [tmp_path / "model", tmp_path / "out.parquet", *lists]
    done = forked.run("-c", script, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    few, many = (int(line) / 1024 for line in done.stdout.split())
    assert many - few < 30  # the lists of 15,000 users take 150 MB as a table
