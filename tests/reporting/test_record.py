"""Records survive JSON, and what is no record is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ArtifactError
from recsys.evaluation.tables import Table
from recsys.reporting.record import RunRecord, read_tables, write_tables


def test_a_record_read_again_equals_the_one_written(make_record, tmp_path):
    record = make_record()
    path = record.write(tmp_path)
    assert path.name == "record.json"
    assert RunRecord.read(tmp_path) == record
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_numpy_paths_tuples_and_gaps_become_what_json_gives_back(make_record):
    record = make_record(
        config={"path": Path("a/b"), "ks": (5, 10), "seed": np.int64(3)},
        history=[{"number": 1, "train_loss": float("nan"), "seconds": np.float32(0.5)}],
        oracle={"expected_ndcg@10": float("inf")},
    )
    assert record.config == {"path": "a/b", "ks": [5, 10], "seed": 3}
    assert record.history[0].train_loss is None
    assert record.oracle == {"expected_ndcg@10": None}
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_unicode_stays_readable_in_the_file(make_record, tmp_path):
    path = make_record(run_name="Æther “x”").write(tmp_path)
    assert "Æther “x”" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(({"format": version}, "'format' 1, got") for version in (None, 0, 2, "1")),
        ({"colour": "red"}, "'colour': unexpected keyword argument"),
        ({"status": "done"}, r"'status': must be 'running', .*, got 'done'"),
        ({"dataset": ...}, "'dataset': field required"),
    ],
)
def test_another_format_and_fields_that_are_wrong_are_named(make_record, change, said):
    content = make_record().to_json() | change
    content = {name: value for name, value in content.items() if value is not ...}
    with pytest.raises(ArtifactError, match=said):
        RunRecord.from_json(content)


def test_a_record_of_before_epochs_told_the_best_and_all_had_intervals_is_read(make_record):
    content = make_record().to_json()
    content["history"] = [{"number": 1, "train_loss": None, "seconds": 1.5}]
    content["evaluation"] = {"split": "test", "n_users": 3, "model": {"means": {"ndcg@10": 0.5}}}
    record = RunRecord.from_json(json.loads(json.dumps(content)))
    assert (record.history[0].is_best, record.history[0].validation) == (False, {})
    assert record.judged.model.value("ndcg@10") == (0.5, None, None)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"record\.json: must hold"):
        RunRecord.read(tmp_path)


def test_a_directory_without_record_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"record\.json: must be a readable file"):
        RunRecord.read(tmp_path / "nowhere")


def test_tables_read_again_equal_those_written_in_their_order(tables, tmp_path):
    names = write_tables(tmp_path, tables.values())
    assert names == list(tables)
    assert list(read_tables(tmp_path, names).items()) == list(tables.items())


def test_a_damaged_table_is_named(tmp_path):
    write_tables(tmp_path, [Table("t", "T", "", ("a",), ())])
    (tmp_path / "tables" / "t.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"t\.json: a table must have"):
        read_tables(tmp_path, ["t"])
