import dataclasses

import pytest

from sweeps.findings import Finalist, Finalists, TestLook, TunedBaseline
from sweeps.on_test import on_test
from sweeps.report import build_sweep_report
from sweeps.summary import key_table

METRIC = "ndcg@10"


def look(trial, value, run_name=None, **beside):
    shown = {name: {METRIC: known} for name, known in beside.items()}
    return TestLook("2026-01-02T04:00:00+00:00", "a look", trial, run_name, {METRIC: value}, shown)


@pytest.fixture
def won(make_sweep):
    """Trial 3 won by the mean over three seeds, of which one failed; EASE is the best baseline."""

    def build(*looks, **changes):
        row = Finalist(3, {}, False, 0.2, (0.2, None, 0.21), 0.205, None)
        last = Finalists(METRIC, "maximize", (1, 2, 3), (row,), 3, None, (), "It won.", None)
        tuned = (TunedBaseline("bpr", value=0.1), TunedBaseline("ease", value=0.15))
        record = make_sweep(finalists=last, test_looks=looks, tuned_baselines=tuned)
        return dataclasses.replace(record, **changes)

    return build


SEEDS = look(3, 0.18, default=0.17, ease=0.14, bpr=0.16)
FULL = look(3, 0.19, "rates-best")


def test_the_mean_over_seeds_and_the_run_in_full_are_told_apart_everywhere(won):
    record = won(SEEDS, FULL)
    said = (
        "On test the winner has NDCG@10 0.1800 (mean of 2 fresh seeds), the default 0.1700, "
        "EASE 0.1400; its run in full, one training, has NDCG@10 0.1900."
    )
    assert on_test(record) == said
    report = build_sweep_report(record)
    assert said in report.summary
    assert said in str([s.blocks for s in report.sections if s.anchor == "test"])
    details = {figure.detail: figure.value for figure in report.key_figures}
    assert details["mean of 2 fresh seeds"] == "0.1800" and details["its run in full"] == "0.1900"
    rows = {row[0]: row[1:3] for row in key_table(record).rows[1:]}
    assert rows == {
        "ndcg@10 on test, mean of 2 fresh seeds": (0.18, 0.17),
        "ndcg@10 on test, run in full": (0.19, None),
    }


def test_a_run_in_full_that_refits_says_so(won):
    record = won(FULL, base_config={"training": {"refit": True}})
    assert on_test(record) == (
        "On test the winner's run in full, one training on train and validation, has NDCG@10 "
        "0.1900."
    )


def test_what_an_earlier_winner_reached_is_not_taken_for_the_winners(won):
    record = won(look(5, 0.5, default=0.4), look(5, 0.6, "rates-best"), SEEDS, FULL)
    assert on_test(record) == on_test(won(SEEDS, FULL))
    assert on_test(won(look(5, 0.5))) == ""


def test_a_look_that_was_cut_short_says_nothing(won):
    assert on_test(won(dataclasses.replace(SEEDS, metrics={}))) == ""
