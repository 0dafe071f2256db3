"""From two files to a prepared data set, and its cache."""

import hashlib
import logging
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.config import DataConfig
from recsys.data import dataset
from recsys.data.arrays import Bags, Interactions
from recsys.data.dataset import Prepared, fingerprint, prepare, prepare_cached
from recsys.data.features import Features, ItemFeaturizer
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ArtifactError, ConfigError, DataError

N_USERS, N_BOOKS = 30, 12
START = 1_500_000_000
REAL = Path(__file__).parents[2] / "../shared/data"


def book_rows(rng) -> list[list]:
    """Title, author, categories, average rating, rating number, price."""
    return [
        [
            f"Title {'x' * book}",
            f"Author {book % 4}, Author {book % 5}",
            "|".join(sorted({f"c{c}" for c in rng.integers(0, 6, 3)})),
            round(float(rng.normal(4, 0.3)), 2),
            int(rng.pareto(1) * 10),
            "" if book % 3 == 0 else round(float(rng.gamma(2, 5)), 2),
        ]
        for book in range(N_BOOKS)
    ]


def interaction_rows(rng) -> list[tuple[int, int, int]]:
    """(user, book, time): six distinct books a user, the last two held out."""
    rows = []
    for user in range(N_USERS):
        times = START + np.sort(rng.choice(10**7, 6, replace=False))
        rows += [
            (user, int(book), int(time))
            for book, time in zip(rng.choice(N_BOOKS, 6, replace=False), times, strict=True)
        ]
    return rows


BOOK_ROWS = book_rows(np.random.default_rng(0))


def write(directory: Path, books, rows, **settings) -> DataConfig:
    directory.mkdir(exist_ok=True)
    lines = ["item_id,title,author,categories,average_rating,rating_number,price"]
    for number, (title, author, *rest) in enumerate(books):
        lines.append(f'b{number},"{title}","{author}",' + ",".join(str(value) for value in rest))
    (directory / "books.csv").write_text("\n".join(lines) + "\n")
    lines = ["user_id,item_id,rating,timestamp"]
    lines += [f"u{user},b{book},5,{time}" for user, book, time in rows]
    (directory / "users.csv").write_text("\n".join(lines) + "\n")
    defaults = {"min_user_interactions": 1, "min_item_interactions": 1}
    return DataConfig(
        books_path=directory / "books.csv",
        interactions_path=directory / "users.csv",
        cache_dir=directory / "cache",
        **(defaults | settings),
    )


def small_world(directory: Path, seed=0, **settings) -> DataConfig:
    rng = np.random.default_rng(seed)
    return write(directory, book_rows(rng), interaction_rows(rng), **settings)


def bytes_of(value) -> object:
    """A value as something that compares bit by bit."""
    match value:
        case np.ndarray():
            return (value.dtype.str, value.shape, value.tobytes())
        case Vocabulary():
            return value.ids.to_pylist()
        case pa.Table():
            return value.to_pylist()
        case dict():
            return {name: bytes_of(item) for name, item in value.items()}
        case Bags() | Interactions() | Features() | Prepared():
            return {field.name: bytes_of(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def raw_triples(prepared: Prepared, part: str) -> list[tuple[str, str, int]]:
    interactions: Interactions = getattr(prepared, part)
    users = prepared.users.id_of(interactions.users)
    items = prepared.items.id_of(interactions.items)
    return list(zip(users, items, interactions.times.tolist(), strict=True))


# prepare -----------------------------------------------------------------------------------------


def test_every_interaction_is_in_one_part_under_its_own_ids_sorted_by_user_and_time(tmp_path):
    rng = np.random.default_rng(0)
    books, rows = book_rows(rng), interaction_rows(rng)
    shuffled = [rows[place] for place in rng.permutation(len(rows))]
    prepared = prepare(write(tmp_path, books, shuffled), seed=0)
    expected = {"train": [], "validation": [], "test": []}
    for user in range(N_USERS):
        own = [(f"u{u}", f"b{b}", time) for u, b, time in rows if u == user]
        expected["train"] += own[:4]
        expected["validation"] += own[4:5]
        expected["test"] += own[5:]
    for part, triples in expected.items():
        assert sorted(raw_triples(prepared, part)) == sorted(triples)
    train = prepared.train
    assert prepared.split.train == len(train) == 4 * N_USERS
    keys = list(zip(train.users.tolist(), train.times.tolist(), strict=True))
    assert keys == sorted(keys)
    assert (train.users.dtype, train.items.dtype, train.times.dtype) == ("int32", "int32", "int64")


@pytest.mark.parametrize("make", [prepare, prepare_cached], ids=["made", "cached"])
def test_each_interaction_keeps_its_rating(tmp_path, make):
    """A user's rating of a book is made from both numbers, so that any mix-up shows."""
    config = small_world(tmp_path, min_user_interactions=3)
    header, *rows = config.interactions_path.read_text().splitlines()
    fields_of = [row.split(",") for row in reversed(rows)]
    stars = {(u, b): (3 * int(u[1:]) + int(b[1:])) % 5 + 0.5 for u, b, *_ in fields_of}
    lines = [f"{u},{b},{stars[u, b]},{time}" for u, b, _, time in fields_of]
    config.interactions_path.write_text("\n".join([header, *lines]) + "\n")
    prepared = make(config, 0)
    for part in (prepared.train, prepared.validation, prepared.test):
        users, items = prepared.users.id_of(part.users), prepared.items.id_of(part.items)
        found = part.ratings.tolist()
        assert found == [stars[pair] for pair in zip(users, items, strict=True)]
        assert part.ratings.dtype == np.float32


def test_a_file_without_ratings_has_none(tmp_path):
    config = small_world(tmp_path)
    rows = [line.split(",") for line in config.interactions_path.read_text().splitlines()]
    config.interactions_path.write_text("".join(f"{u},{b},{t}\n" for u, b, _, t in rows))
    assert prepare(config, 0).train.ratings is prepare_cached(config, 0).test.ratings is None


def test_items_are_in_index_order_with_their_raw_text(tmp_path):
    prepared = prepare(small_world(tmp_path), seed=0)
    assert prepared.books.column_names == ["item_id", "title", "author", "categories"]
    assert prepared.books["item_id"].to_pylist() == prepared.items.ids.to_pylist()
    row = prepared.books.to_pylist()[prepared.items.index_of(["b3"])[0]]
    assert row["title"] == "Title xxx"
    assert row["author"] == "Author 3, Author 3"


def test_warm_comes_first_then_validation_and_each_group_is_sorted_by_id(tmp_path):
    """Cut in time: u2 and b2 appear in validation first, u1, b1, u0 and b0 in test."""
    rows = [(user, 3 + (user + k) % 7, START + k) for user in range(3, 10) for k in range(5)]
    held_out = [(2, 2), (3, 2), (1, 1), (0, 0)]
    rows += [(user, book, START + 100 + k) for k, (user, book) in enumerate(held_out)]
    split = {"strategy": "global_time", "test_fraction": 2 / 39, "validation_fraction": 2 / 39}
    prepared = prepare(write(tmp_path, BOOK_ROWS, rows, split=split), seed=0)
    for letter, side in (("u", prepared.users), ("b", prepared.items)):
        assert side.ids.to_pylist() == [f"{letter}{n}" for n in (*range(3, 10), 2, 0, 1)]
    assert (prepared.n_warm_users, prepared.n_known_users) == (7, 8)
    assert (prepared.n_warm_items, prepared.n_known_items) == (7, 8)
    assert prepared.train.items.max() < 7
    assert (prepared.train.n_users, prepared.train.n_items) == (10, 10)
    assert len(prepared.item_features) == len(prepared.user_features) == 10
    nothing = prepared.validation.select(np.zeros(0, dtype=np.int64))
    assert replace(prepared, validation=nothing).n_known_users == 7


def test_the_order_of_items_in_the_file_changes_nothing(tmp_path):
    config = small_world(tmp_path / "one")
    header, *lines = config.books_path.read_text().splitlines()
    other = small_world(tmp_path / "two")
    other.books_path.write_text("\n".join([header, *reversed(lines)]))
    one, two = (bytes_of(prepare(c, seed=0)) for c in (config, other))
    for name in ("sources", "fingerprint"):
        one.pop(name), two.pop(name)
    assert one == two


def test_milliseconds_become_seconds_after_they_gave_the_order(tmp_path):
    """Two readings within a second: the milliseconds say which was first, not the rows."""
    rows = [(0, 0, START * 1000), (0, 1, START * 1000 + 1900), (0, 2, START * 1000 + 1100)]
    prepared = prepare(write(tmp_path, BOOK_ROWS, rows), seed=0)
    assert raw_triples(prepared, "test") == [("u0", "b1", START + 1)]
    assert raw_triples(prepared, "validation") == [("u0", "b2", START + 1)]
    assert prepared.train.times.tolist() == [START]


def test_rows_can_be_the_order(tmp_path):
    rows = [(0, 3, 9), (0, 1, 5), (0, 2, 1)]
    config = write(tmp_path, BOOK_ROWS, rows, split={"order": "rows"})
    prepared = prepare(config, seed=0)
    assert raw_triples(prepared, "test") == [("u0", "b2", 3)]
    assert prepared.split.order == "rows"


@pytest.mark.parametrize("change", ["without times", "all the same"])
def test_without_an_order_all_is_train_and_the_split_says_why(tmp_path, caplog, change):
    config = small_world(tmp_path)
    rows = [row.rsplit(",", 1)[0] for row in config.interactions_path.read_text().splitlines()]
    if change == "all the same":
        rows = [f"{rows[0]},timestamp", *(f"{row},{START}" for row in rows[1:])]
    config.interactions_path.write_text("\n".join(rows))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(config, seed=0)
    assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (180, 0, 0)
    assert "timestamp" in prepared.split.skipped
    assert prepared.train.times is None
    said = "'timestamp' holds the same in every row" in caplog.text
    assert said == (change == "all the same")


@pytest.mark.parametrize(
    "period, settings",
    [
        (10**6, {}),  # ten moments for all
        (10**9, {"split": {"strategy": "leave_random_out"}}),  # one, so no order
        (10**9, {"split": {"strategy": "random"}}),
    ],
)
def test_where_times_are_tied_the_order_of_rows_decides_nothing(tmp_path, period, settings):
    rng = np.random.default_rng(0)
    books, rows = book_rows(rng), interaction_rows(rng)
    rows = [(user, book, START + (time - START) // period) for user, book, time in rows]
    shuffled = [rows[place] for place in rng.permutation(len(rows))]
    first, second = (
        prepare(write(tmp_path / name, books, some, **settings), seed=0)
        for name, some in (("first", rows), ("second", shuffled))
    )
    for part in ("train", "validation", "test"):
        one, other = getattr(first, part), getattr(second, part)
        assert first.users.id_of(one.users) == second.users.id_of(other.users)
        assert first.items.id_of(one.items) == second.items.id_of(other.items)
    assert len(first.test)


def test_interactions_of_a_user_at_the_same_time_are_counted(tmp_path, caplog):
    rows = [(0, book, START + book // 2) for book in range(5)] + [(1, 0, START), (2, 1, START)]
    with caplog.at_level(logging.WARNING):
        prepared = prepare(write(tmp_path, BOOK_ROWS, rows), seed=0)
    assert "4 interactions have the same time as another of their user" in caplog.text
    assert prepared.split.note.startswith("4 of 7 interactions have the same time")


def test_filter_steps_lead_from_the_file_to_the_parts(tmp_path):
    config = small_world(tmp_path, min_user_interactions=2, min_item_interactions=3)
    prepared = prepare(config, seed=0)
    assert prepared.filter_steps[0].interactions == 6 * N_USERS
    last = prepared.filter_steps[-1]
    assert (last.users, last.items) == (len(prepared.users), len(prepared.items))
    assert last.interactions == sum(
        len(part) for part in (prepared.train, prepared.validation, prepared.test)
    )


def test_sources_are_the_hashes_of_the_files(tmp_path):
    config = small_world(tmp_path)
    expected = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (config.books_path, config.interactions_path)
    }
    assert prepare(config, seed=0).sources == expected


@pytest.mark.parametrize("step", ["source_hashes", "read_tables"])
def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path, monkeypatch, step):
    config = small_world(tmp_path)
    do = getattr(dataset, step)

    def do_and_change(given):
        done = do(given)
        with given.interactions_path.open("a") as file:
            file.write("u0,b0,5,1500000000\n")
        return done

    monkeypatch.setattr(dataset, step, do_and_change)
    with pytest.raises(DataError, match=r"users\.csv: must not change while it is read"):
        prepare(config, seed=0)


# Nothing of what is held out reaches the train side ----------------------------------------------


def train_side(prepared: Prepared) -> dict[str, object]:
    """Everything that a model may learn from."""
    warm = prepared.n_warm_items
    item = prepared.item_features
    return {
        "users": prepared.users.ids.to_pylist(),
        "warm items": prepared.items.ids.to_pylist()[:warm],
        "train": [bytes_of(part) for part in (prepared.train.users, prepared.train.items)],
        "times": bytes_of(prepared.train.times),
        "popularity": prepared.train.item_counts[:warm].tolist(),
        "featurizer": prepared.item_featurizer,
        "item dense": bytes_of(item.dense[:warm]),
        "item names": (item.dense_names, item.bag_labels),
        "item bags": bytes_of({name: b.take(np.arange(warm)) for name, b in item.bags.items()}),
        "user features": bytes_of(prepared.user_features),
    }


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max", "time_decayed_mean"])
def test_what_is_held_out_leaves_no_trace_on_the_train_side(tmp_path, aggregate):
    """Other held-out books, ratings and times, and other texts and prices of cold books."""
    rng = np.random.default_rng(5)
    books, rows = book_rows(rng), interaction_rows(rng)
    warm_books = N_BOOKS - 3
    rows = [
        (user, book % warm_books if place % 6 < 4 else book, time)
        for place, (user, book, time) in enumerate(rows)
    ]
    rows = list({(user, book): (user, book, time) for user, book, time in rows}.values())
    latest_train = {}
    held = []
    for user in range(N_USERS):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        held += own[-2:]
        latest_train[user] = own[-3][2]
    changed_books = [
        row if number < warm_books else [f"Other {number} 99", "Nobody", "new|c1", 1.0, 9999, 77.0]
        for number, row in enumerate(books)
    ]
    changed_rows = []
    for user, book, time in rows:
        if (user, book, time) in held:
            train_books = {b for u, b, t in rows if u == user and (u, b, t) not in held}
            used = {b for u, b, _ in changed_rows if u == user}
            free = [b for b in range(N_BOOKS) if b not in train_books | used | {book}]
            later = latest_train[user] + 1 + int(rng.integers(0, 10**6))
            changed_rows.append((user, int(rng.choice(free)), later))
        else:
            changed_rows.append((user, book, time))
    settings = {"feature_params": {"user_aggregation": aggregate}, "min_user_interactions": 3}
    before = prepare(write(tmp_path / "one", books, rows, **settings), seed=0)
    after = prepare(write(tmp_path / "two", changed_books, changed_rows, **settings), seed=0)
    assert raw_triples(before, "test") != raw_triples(after, "test")
    assert len(before.items) > before.n_warm_items
    assert train_side(before) == train_side(after)


def test_the_leak_test_would_see_a_leak(tmp_path):
    """One train interaction less changes the train side."""
    rows = interaction_rows(np.random.default_rng(5))
    one, two = (
        train_side(prepare(write(tmp_path / str(start), BOOK_ROWS, rows[start:]), seed=0))
        for start in (0, 1)
    )
    for part in ("train", "popularity", "user features"):
        assert one[part] != two[part]


# Fingerprints ------------------------------------------------------------------------------------


def fingerprint_of(config, seed=0) -> str:
    return prepare(config, seed).fingerprint


def test_a_fingerprint_has_its_form_and_no_place_counts(tmp_path):
    one, two = (fingerprint_of(small_world(tmp_path / name)) for name in ("one", "two"))
    assert re.fullmatch("sha256:[0-9a-f]{24}", one)
    assert one == two


@pytest.mark.parametrize("name", ["books_path", "interactions_path"])
def test_a_changed_byte_makes_another_fingerprint(tmp_path, name):
    config = small_world(tmp_path)
    before = fingerprint_of(config)
    path = getattr(config, name)
    path.write_text(path.read_text() + "\n")
    assert fingerprint_of(config) != before


@pytest.mark.parametrize(
    "settings",
    [
        {"min_user_interactions": 2},
        {"min_item_interactions": 2},
        {"min_rating": 1},
        {"books_limit": 500},
        {"interactions_limit": 500},
        {"bad_rows": "drop"},
        {"feature_params": {"numeric_columns": ["price"]}},
        {"interaction_columns": {"rating": "rating"}},
        {"split": {"order": "rows"}},
        {"split": {"strategy": "global_time"}},
        {"feature_params": {"title": False}},
        {"feature_params": {"log_skewness": None}},
        {"feature_params": {"author_top_k": 3}},
        {"feature_params": {"bag_kind": "hashed"}},
        {"feature_params": {"user_aggregation": "max"}},
    ],
    ids=str,
)
def test_a_changed_setting_makes_another_fingerprint(tmp_path, settings):
    plain, changed = small_world(tmp_path), small_world(tmp_path, **settings)
    assert fingerprint(changed, ("a", "b"), 0) != fingerprint(plain, ("a", "b"), 0)


def test_the_seed_counts_only_where_the_split_draws(tmp_path):
    by_time, drawn = small_world(tmp_path), small_world(tmp_path, split={"strategy": "random"})
    assert fingerprint_of(by_time, 0) == fingerprint_of(by_time, 1)
    assert fingerprint_of(drawn, 0) != fingerprint_of(drawn, 1)
    assert bytes_of(prepare(drawn, 4)) == bytes_of(prepare(drawn, 4))
    assert bytes_of(prepare(drawn, 4).test) != bytes_of(prepare(drawn, 5).test)


# Saved and cached --------------------------------------------------------------------------------


WORLDS = {
    "plain": {},
    "random without times": {"split": {"strategy": "random", "order": "rows"}},
    "max": {"feature_params": {"user_aggregation": "max"}},
    "no bags": {"feature_params": {"author_top_k": 0, "category_top_k": 0}},
    "hashed": {"feature_params": {"bag_kind": "hashed", "category_top_k": 7}},
}


@pytest.mark.parametrize("settings", WORLDS.values(), ids=WORLDS.keys())
def test_a_loaded_data_set_is_the_saved_one(tmp_path, settings):
    prepared = prepare(small_world(tmp_path, **settings), seed=0)
    prepared.save(tmp_path / "saved")
    assert bytes_of(Prepared.load(tmp_path / "saved")) == bytes_of(prepared)


def test_a_data_set_of_another_version_is_refused(tmp_path, monkeypatch):
    prepare(small_world(tmp_path), seed=0).save(tmp_path / "saved")
    monkeypatch.setattr(dataset, "FORMAT_VERSION", 999)
    with pytest.raises(ArtifactError, match="must be of format 999, is 4"):
        Prepared.load(tmp_path / "saved")


@pytest.fixture
def count_preparations(monkeypatch):
    """A list that grows by one whenever the files are read."""
    calls = []
    read_tables = dataset.read_tables

    def counted(config):
        calls.append(config)
        return read_tables(config)

    monkeypatch.setattr(dataset, "read_tables", counted)
    return calls


def test_cached_is_what_prepare_gives_and_the_second_use_reads_no_table(
    tmp_path, count_preparations
):
    config = small_world(tmp_path)
    expected = bytes_of(prepare(config, seed=0))
    count_preparations.clear()
    assert bytes_of(prepare_cached(config, seed=0)) == expected
    prepared = prepare_cached(config, seed=0)
    assert bytes_of(prepared) == expected
    assert len(count_preparations) == 1
    assert isinstance(prepared.train.users.base, np.memmap)
    assert not prepared.train.users.flags.writeable


def test_ids_are_mapped_as_everything_of_a_cache_is(tmp_path):
    """Each worker of a sweep loads the data set."""
    config = DataConfig(cache_dir=tmp_path)
    prepare_cached(config, seed=0)
    before = pa.total_allocated_bytes()
    loaded = prepare_cached(config, seed=0)
    assert pa.total_allocated_bytes() - before < loaded.users.ids.nbytes / 4


def test_the_same_content_elsewhere_is_found_under_its_own_paths(tmp_path, count_preparations):
    prepare_cached(small_world(tmp_path / "one"), seed=0)
    moved = small_world(tmp_path / "two").model_copy(
        update={"cache_dir": tmp_path / "one" / "cache"}
    )
    prepared = prepare_cached(moved, seed=0)
    assert len(count_preparations) == 1
    assert list(prepared.sources) == [str(moved.books_path), str(moved.interactions_path)]


def test_a_damaged_cache_is_noticed_made_anew_and_whole_again(tmp_path, count_preparations, caplog):
    config = small_world(tmp_path)
    expected = bytes_of(prepare_cached(config, seed=0))
    (directory,) = config.cache_dir.iterdir()
    path = directory / "train_users.npy"
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        assert bytes_of(prepare_cached(config, seed=0)) == expected
        assert len(count_preparations) == 2
    assert caplog.text.count("is not usable and is made anew") == 1


PREPARE = """
import os, sys
from pathlib import Path
from recsys.config import DataConfig
from recsys.data import dataset, storage
where = Path(sys.argv[1])
config = DataConfig(books_path=where / "books.csv", interactions_path=where / "users.csv",
                    cache_dir=where / "cache", min_user_interactions=1, min_item_interactions=1)
"""


def start(script: str, where: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE + script, str(where)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_process_killed_while_writing_leaves_no_cache(tmp_path, count_preparations):
    config = small_world(tmp_path)
    kill = """
save = storage.np.save
def save_and_die(path, *args, **keywords):
    save(path, *args, **keywords)
    if "test_items" in str(path):
        os.kill(os.getpid(), 9)
storage.np.save = save_and_die
dataset.prepare_cached(config, 0)
"""
    process = start(kill, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert any(config.cache_dir.iterdir())  # what it left behind
    assert len(prepare_cached(config, seed=0).train) == 4 * N_USERS
    assert len(count_preparations) == 1


def test_two_processes_at_once_both_end_with_a_whole_data_set(tmp_path):
    """Each waits with its finished files until the other has begun to write as well."""
    config = small_world(tmp_path)
    wait = """
import time
write = storage._write_files
def write_and_wait(directory, content):
    write(directory, content)
    while len(list(directory.parent.glob(".*"))) < 2 and not any(directory.parent.glob("sha*")):
        time.sleep(0.01)
storage._write_files = write_and_wait
print(len(dataset.prepare_cached(config, 0).train))
"""
    processes = [start(wait, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert outputs == [str(4 * N_USERS)] * 2
    assert [path.name[:7] for path in config.cache_dir.iterdir()] == ["sha256-"]


def test_an_unwritable_cache_is_named(tmp_path):
    config = small_world(tmp_path)
    config.cache_dir.write_text("a file in the way")
    with pytest.raises(ArtifactError, match=r"cache.*: must be writable"):
        prepare_cached(config, seed=0)


def test_a_contradiction_in_the_settings_makes_no_cache(tmp_path):
    config = small_world(tmp_path, feature_params={"numeric_columns": ["title"]})
    with pytest.raises(ConfigError):
        prepare_cached(config, seed=0)
    assert not config.cache_dir.exists()


# Real data ---------------------------------------------------------------------------------------


def real(name: str, **settings) -> DataConfig:
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} in {REAL}")
    return DataConfig(
        books_path=folder / "books.csv.gz", interactions_path=folder / "users.csv.gz", **settings
    )


def test_goodbooks_heavy_is_prepared_in_row_order():
    prepared = prepare(real("goodbooks-heavy", split={"order": "rows"}), seed=0)
    assert prepared.filter_steps[0].interactions == 298_176
    assert len(prepared.users) == 2_672
    assert (prepared.split.test, prepared.split.validation) == (2_672, 2_672)
    assert "price" not in prepared.item_features.dense_names
    assert prepared.item_features.bags["categories"].n_columns == 604
    assert isinstance(prepared.item_featurizer, ItemFeaturizer)


@pytest.mark.slow
def test_goodbooks_is_prepared_with_a_random_split():
    prepared = prepare(real("goodbooks", split={"strategy": "random"}), seed=0)
    assert prepared.filter_steps[0].interactions == 979_478
    assert prepared.filter_steps[-1].interactions == 930_580
    assert prepared.split.test / 930_580 == pytest.approx(0.1, abs=0.001)
    assert prepared.split.skipped is None
