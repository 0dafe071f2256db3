"""Data of others: splits made before, files without titles, lines in place of tables."""

import gzip
import logging

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from recsys.config import DataConfig
from recsys.data.dataset import Prepared, prepare, prepare_cached
from recsys.data.splitting import SplitSummary
from recsys.errors import DataError

SPLIT = {
    "train": {"u1": ["b1", "b2", "b3"], "u2": ["b2", "b4"], "u3": ["b5", "b1"]},
    "validation": {"u1": ["b4"], "u3": ["b2"]},
    "test": {"u1": ["b5"], "u2": ["b1", "b3"], "u4": ["b6"]},
}
BOOKS = "item_id,title,author,categories\n" + "".join(f"b{n},T{n},A,c\n" for n in range(1, 7))


def pairs(part):
    return [(user, item) for user, items in part.items() for item in items]


def write_csv(folder, name, part, columns="user_id,item_id", more=""):
    path = folder / f"{name}.csv"
    path.write_text(f"{columns}\n" + "".join(f"{u},{i}{more}\n" for u, i in pairs(part)))
    return path


def write_parquet(folder, name, part):
    path = folder / f"{name}.parquet"
    pq.write_table(pacsv.read_csv(write_csv(folder, name, part)), path)
    return path


def write_lines(folder, name, part, end=".txt.gz"):
    text = "".join(f"{' '.join([user, *items])}\n" for user, items in part.items())
    path = folder / f"{name}{end}"
    path.write_bytes(gzip.compress(text.encode()) if end.endswith("gz") else text.encode())
    return path


def config_of(folder, write=write_csv, files=SPLIT, **settings) -> DataConfig:
    folder.mkdir(exist_ok=True)
    paths = {name: write(folder, name, part) for name, part in files.items()}
    given = {"interactions_path": paths.pop("train"), "books_path": None}
    given |= {f"{name}_path": path for name, path in paths.items()}
    return DataConfig(**(given | {"cache_dir": folder / "cache"} | settings))


def raw(prepared: Prepared, name: str):
    part = getattr(prepared, name)
    users, items = prepared.users.id_of(part.users), prepared.items.id_of(part.items)
    return sorted(zip(users, items, strict=True))


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_lines])
@pytest.mark.parametrize("make", [prepare, prepare_cached])
def test_the_parts_are_as_given(tmp_path, write, make):
    prepared = make(config_of(tmp_path, write), 0)
    for name, part in SPLIT.items():
        assert raw(prepared, name) == sorted(pairs(part))
    assert prepared.split == SplitSummary("given", "timestamp", None, 7, 2, 4)
    assert (prepared.n_warm_users, prepared.n_warm_items) == (3, 5)
    assert (prepared.users.id_of([3])[0], prepared.items.id_of([5])[0]) == ("u4", "b6")
    assert [step.name for step in prepared.filter_steps] == [
        "read",
        "known items",
        "latest of each pair",
    ]


def test_items_may_be_known_by_their_ids_alone(tmp_path):
    prepared = prepare(config_of(tmp_path), 0)
    assert prepared.books["item_id"].to_pylist() == [f"b{n}" for n in range(1, 7)]
    assert set(prepared.books["title"].to_pylist()) == {""}
    assert prepared.item_features.dense.shape == (6, 0)
    assert prepared.item_features.bags == {}
    assert prepared.user_features.dense_names == ("log_train_interactions",)
    assert len(prepared.item_featurizer.transform(prepared.books)) == 6


def test_one_file_of_lines_without_a_books_file_is_split_like_any_other(tmp_path):
    users = {f"u{n}": [f"b{(n + k) % 7}" for k in range(4)] for n in range(7)}
    config = DataConfig(
        books_path=None,
        interactions_path=write_lines(tmp_path, "all", users, ".txt"),
        min_user_interactions=1,
        min_item_interactions=1,
        split={"strategy": "leave_latest_out", "order": "rows"},
    )
    prepared = prepare(config, 0)
    assert raw(prepared, "test") == sorted((user, items[-1]) for user, items in users.items())
    assert raw(prepared, "validation") == sorted((u, items[-2]) for u, items in users.items())


def test_a_books_file_gives_titles_and_leaves_out_items_it_lacks(tmp_path, caplog):
    (tmp_path / "books.csv").write_text(BOOKS.replace("b3,T3,A,c\n", ""))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(config_of(tmp_path, books_path=tmp_path / "books.csv"), 0)
    assert set(prepared.books["title"].to_pylist()) == {"T1", "T2", "T4", "T5", "T6"}
    assert raw(prepared, "test") == [("u1", "b5"), ("u2", "b1"), ("u4", "b6")]
    assert "train.csv: column 'item_id' has 2 values missing" in caplog.text
    (tmp_path / "books.csv").write_text(BOOKS.replace("b6,T6,A,c\n", ""))
    prepare(config_of(tmp_path, books_path=tmp_path / "books.csv"), 0)
    assert "test.csv: column 'item_id' has 1 values missing" in caplog.text
    assert "first 'b6' in row 4" in caplog.text


def test_a_pair_in_several_parts_stays_in_the_first(tmp_path):
    split = SPLIT | {
        "validation": {"u1": ["b4", "b1"]},
        "test": {"u1": ["b4", "b5", "b2", "b5"]},
    }
    prepared = prepare(config_of(tmp_path, files=split), 0)
    assert raw(prepared, "train") == sorted(pairs(SPLIT["train"]))
    assert raw(prepared, "validation") == [("u1", "b4")]
    assert raw(prepared, "test") == [("u1", "b5")]


def without_validation(folder, **settings):
    rng = np.random.default_rng(0)
    items = {f"u{n}": [f"b{i}" for i in rng.permutation(40)[:20]] for n in range(50)}
    split = {
        "train": {user: own[:16] for user, own in items.items()},
        "test": {user: own[16:] for user, own in items.items()},
    }
    return config_of(folder, write_lines, split, **settings), split


def test_without_a_validation_file_a_part_of_train_is_cut_at_random(tmp_path):
    config, split = without_validation(tmp_path)
    prepared = prepare(config, 0)
    assert raw(prepared, "test") == sorted(pairs(split["test"]))
    assert sorted(raw(prepared, "train") + raw(prepared, "validation")) == sorted(
        pairs(split["train"])
    )
    assert set(prepared.validation.user_counts.tolist()) == {1, 2}  # of 16 a tenth
    assert prepared.split.note == (
        "validation is cut at random from train, 10% of each user's interactions"
    )
    again, other = prepare(config, 0), prepare(config, 1)
    assert raw(again, "validation") == raw(prepared, "validation") != raw(other, "validation")
    assert again.fingerprint == prepared.fingerprint != other.fingerprint
    given = config_of(tmp_path / "given")
    assert prepare(given, 0).fingerprint == prepare(given, 1).fingerprint
    quarter, _ = without_validation(tmp_path, split={"validation_fraction": 0.25})
    assert set(prepare(quarter, 0).validation.user_counts.tolist()) == {4}


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_every_file_counts_in_the_fingerprint(tmp_path, name):
    config = config_of(tmp_path)
    before = prepare_cached(config, 0)
    changed = SPLIT | {name: SPLIT[name] | {"u9": ["b2"]}}
    after = prepare_cached(config_of(tmp_path, files=changed), 0)
    assert after.fingerprint != before.fingerprint
    assert raw(after, name) == sorted([*pairs(SPLIT[name]), ("u9", "b2")])
    assert len(after.sources) == 3


def test_times_and_ratings_are_kept_where_every_file_has_them(tmp_path, caplog):
    """The times of one file are in milliseconds, and come together with the others."""

    def write(folder, name, part):
        columns, more = "user_id,item_id,rating,timestamp", ",4,1500000000"
        if name == "test":
            columns, more = "user_id,item_id,timestamp", ",1500000001000"
        return write_csv(folder, name, part, columns, more)

    with caplog.at_level(logging.WARNING):
        prepared = prepare(config_of(tmp_path, write), 0)
    assert set(prepared.train.times.tolist()) == {1500000000}
    assert set(prepared.test.times.tolist()) == {1500000001}
    assert prepared.train.ratings is prepared.test.ratings is None
    assert "'rating' is not used: other files have none" in caplog.text


def test_what_files_of_lines_cannot_be_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"test\.txt\.gz: must have at least one interaction"):
        prepare(config_of(tmp_path, write_lines, SPLIT | {"test": {"u1": []}}), 0)
    books = write_lines(tmp_path, "books", SPLIT["train"])
    with pytest.raises(DataError, match=r"a books file must be \.csv, \.csv\.gz or \.parquet"):
        prepare(config_of(tmp_path, books_path=books), 0)


def test_settings_are_filled_in_and_may_be_read_again(tmp_path):
    config = config_of(tmp_path)
    kept = config.min_user_interactions, config.min_item_interactions
    assert (kept, config.split.strategy) == ((1, 1), "given")
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config
    plain = DataConfig()
    kept = plain.min_user_interactions, plain.min_item_interactions
    assert (kept, plain.split.strategy) == ((5, 10), "leave_latest_out")
    cut = DataConfig(test_path="x.txt")
    assert cut.split.validation_fraction == 0.1
    assert DataConfig.model_validate(cut.model_dump(mode="json")) == cut


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": {"strategy": "random"}}, "the split is as given: .* got 'random'"),
        ({"min_user_interactions": 5}, "is not filtered: .* got 5, 1 and null"),
        ({"min_item_interactions": 2}, "is not filtered: .* got 1, 2 and null"),
        ({"min_rating": 3.5}, r"is not filtered: .* got 1, 1 and 3\.5"),
        ({"split": {"validation_fraction": 0.2}}, "has a meaning only without a 'validation_path'"),
        ({"split": {"test_fraction": 0.2}}, "'test_fraction' has a meaning only"),
        ({"test_path": "train.csv"}, "must be different files"),
        ({"test_path": None}, "needs a 'test_path'"),
        ({"test_path": None, "validation_path": None, "split": {"strategy": "given"}}, "needs a"),
        ({"books_path": None, "books_limit": 3}, "only with a 'books_path', got null"),
    ],
)
def test_what_does_not_go_with_a_ready_made_split_is_refused(settings, message):
    given = {
        "interactions_path": "train.csv",
        "validation_path": "validation.csv",
        "test_path": "test.csv",
    }
    with pytest.raises(ValidationError, match=message):
        DataConfig(**(given | settings))
