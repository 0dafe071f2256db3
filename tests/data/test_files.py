"""Files as people have them: in parts, packed, or not what their names say."""

import gzip
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import DataConfig
from recsys.data.dataset import prepare_cached
from recsys.data.files import content_sha256, file_format
from recsys.data.tables import read_tables
from recsys.errors import DataError

ROWS = [(f"u{user}", f"b{item}", 1_500_000_000 + item) for user in range(4) for item in range(5)]


def config_of(path, **settings):
    minimums = {"min_user_interactions": 1, "min_item_interactions": 1}
    return DataConfig(books_path=None, interactions_path=path, **(minimums | settings))


def table_of(rows) -> pa.Table:
    columns = ("user_id", "item_id", "timestamp")
    return pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def write_parts(folder, *tables):
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number}.snappy.parquet")
    return folder


def pairs_of(config):
    tables = read_tables(config)
    log, users, items = (
        tables.interactions,
        tables.user_ids.to_pylist(),
        tables.item_ids.to_pylist(),
    )
    return [(users[u], items[i]) for u, i in zip(log.users, log.items, strict=True)]


@pytest.mark.parametrize("limit", [None, 3, 12])
def test_a_folder_of_parquet_parts_is_read_in_the_order_of_their_names(tmp_path, limit):
    folder = write_parts(tmp_path / "users", *(table_of(ROWS[at : at + 10]) for at in (0, 10)))
    config = config_of(folder, interactions_limit=limit)
    assert pairs_of(config) == [row[:2] for row in ROWS[:limit]]


def test_a_folder_is_cached_until_a_part_changes(tmp_path):
    folder = write_parts(tmp_path / "users", table_of(ROWS[:10]), table_of(ROWS[10:]))
    config = config_of(folder, cache_dir=tmp_path / "cache")
    first = prepare_cached(config, seed=0)
    assert prepare_cached(config, seed=0).fingerprint == first.fingerprint
    pq.write_table(table_of(ROWS[10:15]), folder / "part-1.snappy.parquet")
    assert prepare_cached(config, seed=0).fingerprint != first.fingerprint


def test_parts_may_differ_in_the_type_of_ids(tmp_path):
    numbers = pa.table({"user_id": [1], "item_id": [10]})
    texts = pa.table({"user_id": ["1"], "item_id": ["11"]})
    config = config_of(write_parts(tmp_path / "users", numbers, texts))
    assert pairs_of(config) == [("1", "10"), ("1", "11")]


def test_a_part_without_a_column_of_the_others_is_named(tmp_path):
    folder = write_parts(tmp_path / "users", table_of(ROWS), table_of(ROWS).drop(["timestamp"]))
    with pytest.raises(DataError, match=r"part-1\.snappy\.parquet: column 'timestamp' is missing"):
        read_tables(config_of(folder))


def test_parts_whose_times_differ_in_type_are_refused(tmp_path):
    table = table_of(ROWS)
    typed = table.set_column(2, "timestamp", table["timestamp"].cast(pa.timestamp("s")))
    folder = write_parts(tmp_path / "users", table, typed)
    with pytest.raises(DataError, match="column 'timestamp' must be of one type in all parts"):
        read_tables(config_of(folder))


def test_a_folder_without_parquet_files_is_named(tmp_path):
    with pytest.raises(DataError, match="a folder must hold files whose names end in"):
        file_format(tmp_path)


def test_a_single_file_has_its_own_digest(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"abc")
    assert content_sha256(tmp_path / "x.csv").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("users.csv", "user_id,item_id\n" + "\n".join(f"{u},{i}" for u, i, _ in ROWS)),
        ("users.txt", "\n".join(f"{u} {i}" for u, i, _ in ROWS)),
    ],
)
def test_gzip_is_known_by_its_content(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()))
    assert pairs_of(config_of(path)) == [row[:2] for row in ROWS]


@pytest.mark.parametrize(
    ("start", "expected"),
    [(b"PK\x03\x04", "is a zip or Excel file"), (b"PAR1", r"name must end in \.parquet")],
)
def test_a_file_of_another_format_is_named(tmp_path, start, expected):
    path = tmp_path / "users.csv"
    path.write_bytes(start + b"\x00\x01\n")
    with pytest.raises(DataError, match=expected):
        read_tables(config_of(path))


def test_a_pipe_is_refused_at_once(tmp_path):
    path = tmp_path / "users.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("x",), daemon=True)
    writer.start()
    with pytest.raises(DataError, match="must be a file, which is read more than once"):
        read_tables(config_of(path))
    path.read_text()  # lets the writer go
    writer.join(10)
