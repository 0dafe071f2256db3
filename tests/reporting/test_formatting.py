"""Numbers as reports show them."""

import pytest

from recsys.evaluation.tables import Table
from recsys.reporting.formatting import (
    cells,
    duration,
    memory,
    metric_label,
    moment,
    number,
    numeric_columns,
    setting_text,
)


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (metric_label, "ndcg@10", "NDCG@10"),
        (metric_label, "hit_rate@5", "Hit rate@5"),
        (metric_label, "sampled_ndcg@10", "Sampled NDCG@10"),
        (metric_label, "sampled_hit_rate@10", "Sampled hit rate@10"),
        (metric_label, "made_up", "Made up"),
        (number, None, "–"),
        (number, 1234, "1,234"),
        (number, 0.12345, "0.1235"),
        (number, 0.0, "0.0000"),
        (number, 3.2e-7, "3.2e-7"),  # never rounded to nothing
        (duration, 3.21, "3.2 s"),
        (duration, 75, "1 min 15 s"),
        (duration, 3599.9, "1 h 0 min"),
        (duration, 7260, "2 h 1 min"),
        (moment, "2026-01-02T03:04:05Z", "2026-01-02 03:04 UTC"),
        (moment, "2026-01-02T03:04:05+02:00", "2026-01-02 01:04 UTC"),
        (moment, "yesterday", "yesterday"),
        (memory, 700, "700 MiB"),
        (memory, 2048, "2.0 GiB"),
        (setting_text, [12.34, None, True, 1000], "[12.34, null, true, 1000]"),
        (setting_text, ..., "not set"),
    ],
)
def test_a_value_is_shown_in_the_form_of_its_kind(form, value, shown):
    assert form(value) == shown


def test_numbers_of_a_column_share_their_decimals():
    table = Table("t", "T", "", ("a", "b"), ((123.456, 0.5), (1.0, 0.25), (None, None)))
    assert cells(table, 9) == [["123.5", "0.5000"], ["1.0", "0.2500"], ["–", "–"]]


def test_many_categories_are_counted():
    table = Table("t", "T", "", ("categories",), (("a|b|c|d|e|f|g",), ("a|b",)))
    assert cells(table, 9) == [["a, b, c, d, e (+2)"], ["a, b"]]


def test_numbers_and_intervals_stand_to_the_right():
    rows = (("x", 1, "[0.1, 0.2]", None), (None, 2.5, "1–5", None))
    table = Table("t", "T", "", ("text", "number", "interval", "empty"), rows)
    assert numeric_columns(table) == [False, True, True, False]


def test_values_that_differ_by_a_hundredth_do_not_look_alike():
    rates = Table("t", "T", "", ("learning_rate",), ((0.05,), (0.000598805,), (0.00062,)))
    assert cells(rates, 9) == [["0.05000"], ["0.00060"], ["0.00062"]]
    small = Table("t", "T", "", ("learning_rate",), ((0.000598805,), (0.0001,)))
    assert cells(small, 9) == [["0.0005988"], ["0.0001000"]]
    noise = Table("t", "T", "", ("ndcg@10",), ((0.067901,), (0.067899,)))
    assert cells(noise, 9) == [["0.0679"], ["0.0679"]]


def test_p_values_below_what_a_test_can_tell_are_told_as_below_it():
    table = Table("t", "T", "", ("p_value", "p_corrected"), ((0.0001, 0.0009), (0.62594, 1.0)))
    assert cells(table, 9) == [["<0.001", "<0.001"], ["0.626", "1.000"]]
    assert numeric_columns(table) == [True, True]
