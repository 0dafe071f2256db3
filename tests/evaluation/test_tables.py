import json

import numpy as np
import pytest

from recsys.errors import ArtifactError
from recsys.evaluation.tables import Table

TABLE = Table(
    name="gate_by_popularity",
    title="Gate by popularity",
    note="1 is open.",
    columns=("segment", "n", "gate"),
    rows=(("cold", 3, 0.25), ("head", 0, None)),
)


def test_a_table_survives_json():
    assert Table.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE


def test_rows_and_columns_are_in_the_orientation_that_table_viewers_page():
    written = TABLE.to_json()
    assert written["columns"] == ["segment", "n", "gate"]
    assert written["data"] == [["cold", 3, 0.25], ["head", 0, None]]


def test_nan_and_infinity_become_null():
    table = Table("a", "A", "", ("x",), ((float("nan"),), (np.float32("inf"),), (np.float64(2.0),)))
    assert json.dumps(table.to_json()["data"], allow_nan=False) == "[[null], [null], [2.0]]"


def test_numpy_scalars_become_plain_numbers():
    table = Table("a", "A", "", ("x", "y"), ((np.int32(3), np.float32(0.5)),))
    assert [type(cell) for cell in table.rows[0]] == [int, float]


def test_a_cell_that_is_no_scalar_is_refused():
    with pytest.raises(TypeError, match="a cell must be a string, a number or None, got list"):
        Table("a", "A", "", ("x",), (([1],),))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Gate", "gate by", "gate/by", "", "../gate"])
def test_a_name_that_is_not_safe_as_a_file_name_is_refused(name):
    with pytest.raises(AssertionError, match="snake_case"):
        Table(name, "A", "", ("x",), ())


def test_rows_that_do_not_fit_the_columns_are_refused():
    written = TABLE.to_json()
    written["data"][1] = ["head"]
    with pytest.raises(ArtifactError, match="row 1 must have 3 values, got 1"):
        Table.from_json(written)


def test_json_that_is_no_table_is_refused():
    with pytest.raises(ArtifactError, match=r"must have the keys \['columns', 'note', 'title'\]"):
        Table.from_json({"name": "a", "data": []})


def test_records_with_different_keys_leave_gaps():
    table = Table.from_records("a", "A", "", [{"x": 1}, {"x": 2, "y": 3}])
    assert (table.columns, table.rows) == (("x", "y"), ((1, None), (2, 3)))


def test_a_gap_in_a_column_of_numbers_is_nan_in_the_frame():
    frame = TABLE.to_frame()
    assert frame["gate"].dtype == np.float64
    assert np.isnan(frame["gate"][1])


def test_a_table_without_rows_keeps_its_columns():
    table = Table("a", "A", "", ("x", "y"), ())
    assert list(table.to_frame().columns) == ["x", "y"]
    assert Table.from_json(table.to_json()) == table


def test_columns_are_taken_by_name_and_rows_told_by_column():
    table = Table("t", "T", "n", ("a", "b", "c"), ((1, "x", None), (2, "y", 0.5)))
    chosen = table.select(["c", "a"])
    assert (chosen.columns, chosen.rows) == (("c", "a"), ((None, 1), (0.5, 2)))
    assert chosen.records() == [{"c": None, "a": 1}, {"c": 0.5, "a": 2}]
