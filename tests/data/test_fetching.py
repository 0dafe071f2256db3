"""Inputs in an object store: moto's S3, asked by pyarrow's own client."""

import gzip
import logging
import os

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from experiments.console import RunConsole
from experiments.runner import run
from recsys.config import Config, DataConfig
from recsys.data import fetching
from recsys.data.dataset import check_prepared, prepare, prepare_cached
from recsys.data.fetching import fetch
from recsys.errors import ArtifactError, DataError
from tracking import payload

LOGIN = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def server():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def put(server, monkeypatch):
    """Puts bytes or a file under a key of the bucket "shop"; None takes the key away."""
    for name, value in (LOGIN | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1")
    client.create_bucket(Bucket="shop")

    def put(key, content):
        if content is None:
            client.delete_object(Bucket="shop", Key=key)
        else:
            body = content if isinstance(content, bytes) else content.read_bytes()
            client.put_object(Bucket="shop", Key=key, Body=body)
        return f"s3://shop/{key}"

    yield put
    for each in client.list_objects_v2(Bucket="shop").get("Contents", ()):
        put(each["Key"], None)


@pytest.fixture
def stored(put, board_settings, tmp_path):
    """Settings of the board whose two files are in the bucket, and the same of files here."""
    here = Config(**board_settings).data
    changes = {
        f"{name}_path": put(f"in/{path.name}", path) for name, path in here.source_paths.items()
    }
    changes |= {"cache_dir": tmp_path / "cache"}
    return DataConfig(**(here.model_dump() | changes)), here


def test_data_from_a_bucket_are_those_of_the_same_files_here(stored):
    there, here = stored
    fetched, local = prepare_cached(there, 0), prepare(here, 0)
    assert fetched.fingerprint == local.fingerprint
    np.testing.assert_array_equal(fetched.train.items, local.train.items)
    assert [*fetched.sources] == ["s3://shop/in/books.csv", "s3://shop/in/users.csv"]
    assert [*fetched.sources.values()] == [*local.sources.values()]
    check_prepared(there, 0)


def test_only_what_has_changed_is_fetched_again(stored, put, caplog):
    config, _ = stored
    before = prepare_cached(config, 0)
    caplog.set_level(logging.INFO)
    caplog.clear()  # where a test before had the log at this level
    prepare_cached(config, 0)
    assert "fetching" not in caplog.text
    text = config.source_paths["interactions"].read_text()
    put("in/users.csv", text.rsplit("\n", 2)[0].encode())  # without the last row
    after = prepare_cached(config, 0)
    assert [r.getMessage() for r in caplog.records if "fetching" in r.msg] == [
        "s3://shop/in/users.csv: fetching 1 of 1 files"
    ]
    assert after.fingerprint != before.fingerprint


def test_a_folder_of_many_parts_is_read_whole_and_kept_in_step(put, tmp_path, caplog):
    def part(n):
        rows = pa.table({"user_id": [f"u{n}"] * 3, "item_id": ["a", "b", f"c{n}"]})
        pq.write_table(rows, tmp_path / "part")
        return put(f"log/part-{n:03}.parquet", tmp_path / "part")

    def users():
        config = DataConfig(
            books_path=None,
            interactions_path="s3://shop/log/",
            cache_dir=tmp_path / "cache",
            min_user_interactions=1,
            min_item_interactions=1,
            split={"strategy": "leave_random_out"},
        )
        return prepare(config, 0).users.ids.to_pylist()

    for n in range(40):
        part(n)
    put("log/_SUCCESS", b"")
    put("log/deeper/part-000.parquet", b"not read")
    assert users() == sorted(f"u{n}" for n in range(40))
    put("log/part-007.parquet", None)
    part(40)
    caplog.set_level(logging.INFO)
    assert users() == sorted(f"u{n}" for n in range(41) if n != 7)
    assert "fetching 1 of 40 files" in caplog.text


def test_bytes_stay_as_they_are(put, tmp_path):
    packed = gzip.compress(b"user_id,item_id\n" * 10_000)
    address = put("in/log.csv.gz", packed)
    assert fetch(address, tmp_path).read_bytes() == packed
    assert fetch(address, tmp_path) == tmp_path / "inputs/s3/shop/in/log.csv.gz"


def test_a_copy_that_was_lost_is_fetched_again(put, tmp_path):
    address = put("in/x.csv", b"x")
    fetch(address, tmp_path).unlink()
    assert fetch(address, tmp_path).read_bytes() == b"x"


def test_a_run_on_a_bucket_names_it_in_its_record(stored, board_config, tmp_path, monkeypatch):
    there, _ = stored
    monkeypatch.chdir(tmp_path)
    changes = {"experiment": {"tracking": False}, "training": {"num_epochs": 1}}
    config = board_config(changes | {"data": there.model_dump()})
    record = run(config, RunConsole())
    assert record.config["data"]["books_path"] == "s3://shop/in/books.csv"
    described = payload.dataset_input(record.dataset)
    assert described.dataset.source_type == "s3"
    assert described.dataset.name == "in/books.csv+users.csv"


# What cannot be had ------------------------------------------------------------------------------


def test_what_is_not_there_is_said(put, tmp_path):
    with pytest.raises(DataError, match=r"^s3://shop/none.csv: no such file$"):
        fetch("s3://shop/none.csv", tmp_path)
    put("empty/readme.txt", b"")
    with pytest.raises(DataError, match=r"^s3://shop/empty: a folder must hold files whose names"):
        fetch("s3://shop/empty", tmp_path)


def test_a_file_that_changes_meanwhile_is_refused(put, tmp_path, monkeypatch):
    address, chunks = put("in/x.csv", b"one"), fetching._chunks

    def meddle(*arguments):
        put("in/x.csv", b"other")
        return chunks(*arguments)

    monkeypatch.setattr(fetching, "_chunks", meddle)
    with pytest.raises(DataError, match="must not change while it is fetched"):
        fetch(address, tmp_path)
    monkeypatch.undo()


def test_a_store_that_ends_amid_a_file_leaves_the_old_copy(put, tmp_path, monkeypatch):
    address = put("in/x.csv", b"one")
    path = fetch(address, tmp_path)
    put("in/x.csv", b"other")

    def broken(*_):
        yield b"ot"
        raise fetching._unreachable(address, OSError("connection lost\nat line 3 of curl"))

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_chunks", broken)
        with pytest.raises(DataError, match=r"can be read \(connection lost\)$"):
            fetch(address, tmp_path)
    assert path.read_bytes() == b"one"
    assert fetch(address, tmp_path).read_bytes() == b"other"


def test_a_full_disk_is_named(put, nearly_full_disk, tmp_path):
    address = put("in/x.csv", os.urandom(60_000))
    with nearly_full_disk(50_000), pytest.raises(ArtifactError, match="must be writable"):
        fetch(address, tmp_path)
    assert not [*tmp_path.rglob("*x.csv")]


def test_a_client_that_ends_its_process_is_one_line():
    with pytest.raises(DataError, match=r"abfs://c@127.0.0.1:9/x.csv: must be an address that"):
        fetching._look("abfs://c@127.0.0.1:9/x.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ftp://host/x.csv", "begins with s3, gs, gcs, abfs, abfss, hdfs, got 'ftp://host/x.csv'"),
        ("ftp://ann:secret@host/x.csv", "got 'ftp://ann@host/x.csv'"),
        ("s3://key:secret@shop/x.csv", "must hold no password"),
        ("hdfs://ann:secret@host/x.csv", "must hold no password"),
        ("s3://shop", "must name a file or folder behind its bucket"),
        ("s3:///x.csv", "must name a file or folder behind its bucket"),
        ("s3://shop/../../x.csv", "must name a file or folder behind its bucket"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(given, said):
    with pytest.raises(ValidationError) as error:
        DataConfig(books_path=given)
    assert said in str(error.value)
    assert "secret" not in str(error.value).partition("[type=")[0]


def test_a_file_address_is_a_path(tmp_path):
    assert DataConfig(books_path=f"file://{tmp_path}/b.csv").books_path == tmp_path / "b.csv"
