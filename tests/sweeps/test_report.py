import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.tables import Table
from recsys.reporting.formatting import cells
from sweeps.finalists import ComparisonRules, Retraining, compare_finalists
from sweeps.findings import BaselineComparison, Comparison, RankAgreement, TestLook
from sweeps.record import Constraint
from sweeps.report import build_sweep_report, write_sweep_report
from sweeps.summary import key_table
from sweeps.tables import comparisons_table, short_names, sweep_tables
from tests.sweeps.trials import with_default

MIXED = (*("complete",) * 12, "pruned", "pruned", "failed")
LOOK = TestLook("2026-01-02T04:00:00+00:00", "the winner", trial=3, metrics={"ndcg@10": 0.19})


def with_finalists(record):
    rng = np.random.default_rng(0)
    candidates = []
    for trial in {t.number: t for t in [*record.ranked()[:3], record.trials[0]]}.values():
        per_user = [pd.Series(trial.values[0] + rng.normal(0, 0.01, 50)) for _ in range(2)]
        candidates.append(Retraining(trial.number, trial.params, trial.values[0], per_user))
    values = [trial.values[0] for trial in record.in_state("complete")]
    rules = ComparisonRules("ndcg@10", n_samples=100)
    found = compare_finalists(candidates, rules, seeds=[7, 8], search_values=values, rng=rng)
    return dataclasses.replace(record, finalists=found)


def written(record, tmp_path):
    record.write(tmp_path)
    markdown, html = write_sweep_report(tmp_path)
    return markdown.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")


def headings(record):
    return [section.title for section in build_sweep_report(record).sections]


@pytest.mark.parametrize(
    "states",
    [(), ("complete",), ("pruned",) * 5, ("failed",), ("complete", "running"), MIXED],
    ids=["none", "one", "all pruned", "failed", "interrupted", "mixed"],
)
def test_a_sweep_in_any_state_has_a_report(make_sweep, states, tmp_path):
    markdown, html = written(make_sweep(states, status="interrupted"), tmp_path)
    assert "## Space and budget" in markdown
    assert "</html>" in html
    assert not re.search(r"\bNone\b(?! of)|\bnan\b", markdown)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "had not ended"),
        ("interrupted", "was interrupted"),
        ("failed", "This sweep failed: no disk."),
    ],
)
def test_a_sweep_that_did_not_finish_says_so_first(make_sweep, status, said):
    report = build_sweep_report(make_sweep(status=status, error="no disk"))
    assert said in report.notices[0].text


def test_two_objectives_have_a_report_with_their_front(two_objectives, tmp_path):
    markdown, html = written(two_objectives, tmp_path)
    assert f"Pareto front, {len(two_objectives.front())} trials" in markdown
    assert 'aria-label="NDCG@10 against Model bytes"' in html


def test_the_same_record_gives_the_same_bytes(make_sweep, tmp_path):
    record = with_finalists(make_sweep(MIXED))
    written(record, tmp_path)
    first = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    write_sweep_report(tmp_path)
    second = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    assert second == first


def test_a_full_report_has_every_part(make_sweep):
    agreement = RankAgreement("a tenth", "all users", 5, 0.6, 0.7, "they agree in part")
    record = make_sweep(MIXED, test_looks=(LOOK,), fidelity=agreement)
    assert headings(with_finalists(record)) == [
        "Finalists and significance",
        "Selection bias of the best value",
        "The test split",
        "The search",
        "What mattered",
        "Baselines",
        "Agreement between fidelities",
        "What it cost",
        "Space and budget",
        "Trials",
        "Settings",
        "How to reproduce",
    ]


def test_the_summary_says_what_was_found_and_what_to_believe(make_sweep):
    record = with_finalists(make_sweep(MIXED, test_looks=(LOOK,)))
    text = build_sweep_report(record).summary
    best = record.ranked()[0]
    assert "12 complete, 2 pruned, 1 failed" in text
    assert f"The best single trial is {best.number} with NDCG@10 {best.values[0]:.4f}" in text
    assert f"against {record.trials[0].values[0]:.4f} for the default" in text
    assert "better than the default by" in text or "not distinguishable from" in text
    assert "The test split was opened once" in text


COMPARED = Comparison(
    *(3, 0, "winner against default", 0.0212, 0.0125, 0.0275),
    *(0.95, 0.0002, 0.0004, 0.002, 0.0005, 0.0009, 50, True, "It is better."),
)


def test_tiles_say_by_how_much_the_winner_is_better_and_whether_that_may_be_chance(make_sweep):
    record = with_finalists(make_sweep(MIXED))
    finalists = dataclasses.replace(record.finalists, comparisons=(COMPARED,))
    baseline = BaselineComparison(
        "ials", -0.0095, -0.0169, 0.0033, 0.95, 0.18, None, 50, False, "It is worse."
    )
    record = dataclasses.replace(record, finalists=finalists, versus_baseline=baseline)
    tiles = {figure.label: figure for figure in build_sweep_report(record).key_figures}
    default, ials = tiles["Winner against the default"], tiles["Winner against iALS"]
    assert (default.value, default.detail) == ("+0.0212", "[0.0125, 0.0275], beyond chance")
    assert (ials.value, ials.detail) == ("-0.0095", "[-0.0169, 0.0033], may be chance")


def test_a_column_of_intervals_has_one_number_of_decimals(make_sweep):
    record = with_finalists(make_sweep(MIXED))
    first, second = (row.trial for row in record.finalists.rows[:2])
    large = dataclasses.replace(COMPARED, first=first, second=second)
    small = dataclasses.replace(large, low=0.000667, high=0.006326)
    finalists = dataclasses.replace(record.finalists, comparisons=(large, small))
    table = comparisons_table(finalists)
    assert [row["interval"] for row in table.records()] == ["[0.0125, 0.0275]", "[0.0007, 0.0063]"]
    shown = dict(zip(table.columns, cells(table, 1)[0], strict=True))
    assert (shown["p"], shown["Holm"], shown["Holm with seeds"]) == ("<0.001",) * 3


def test_an_untouched_test_split_is_said_to_be_untouched(make_sweep):
    assert "The test split was not opened." in build_sweep_report(make_sweep()).summary


AGAIN = "opened 2 times"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finalists": None}, "a single training"),
        ({"test_looks": (LOOK, LOOK)}, AGAIN),
        ({"test_looks": (LOOK, dataclasses.replace(LOOK, trial=4))}, AGAIN),
        ({"base_config": {"experiment": {"seed": 7}}}, "trained on seed 7, which was also"),
        ({"constraints": (Constraint("epochs", maximum=1),)}, "None of the 12 completed trials"),
    ],
    ids=["no finalists", "the same winner again", "another winner", "seed", "constraint"],
)
def test_what_must_be_known_before_the_numbers_is_said(make_sweep, changes, said):
    record = with_finalists(make_sweep())
    assert not any(said in notice.text for notice in build_sweep_report(record).notices)
    changed = build_sweep_report(dataclasses.replace(record, **changes))
    assert any(said in notice.text for notice in changed.notices)


def test_running_the_named_winner_in_full_is_no_warning(make_sweep):
    full = dataclasses.replace(LOOK, purpose="winner, re-run in full", run_name="rates-best")
    report = build_sweep_report(make_sweep(test_looks=(LOOK, full)))
    assert "opened 2 times (the winner; winner, re-run in full)" in report.summary
    assert not any("test split" in notice.text for notice in report.notices)


def test_reasons_of_failed_trials_are_shown_as_text(make_sweep, tmp_path):
    markdown, html = written(make_sweep(MIXED), tmp_path)
    assert "out of &lt;memory&gt; &amp; luck" in html
    assert r"out of \<memory> & luck" in markdown


def test_the_page_of_the_report_fetches_and_runs_nothing(make_sweep, tmp_path):
    _, html = written(make_sweep(MIXED), tmp_path)
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_every_chart_that_the_markdown_names_is_there(make_sweep, tmp_path):
    markdown, _ = written(with_finalists(make_sweep(MIXED)), tmp_path)
    named = re.findall(r"figures/[\w\\]+\.svg", markdown)
    assert len(named) >= 6
    assert all((tmp_path / name.replace("\\", "")).is_file() for name in named)


def test_tables_are_written_beside_the_report(make_sweep, tmp_path):
    record = make_sweep(MIXED)
    written(record, tmp_path)
    names = {path.stem for path in (tmp_path / "tables").iterdir()}
    assert names == set(sweep_tables(record))
    assert {"trials", "best_trials", "failed_trials", "cost_per_point"} <= names


def rows_of(record, name):
    """Of a table whose first column says what stands in the second."""
    return {row[0]: row[1] for row in sweep_tables(record)[name].rows}


def test_pruned_trials_spare_what_completed_ones_train_longer(make_sweep):
    """Two trials pruned after 3 epochs, completed ones took 10, all could have taken 20."""
    assert rows_of(make_sweep(MIXED), "epochs_spared") == {
        "trials pruned": 2,
        "epochs trained by all trials": 12 * 10 + 2 * 3,
        "mean epochs of a completed trial": 10,
        "epochs spared, against that mean": 2 * 7,
        "epochs spared, at most": 2 * 17,
    }
    pruned = rows_of(make_sweep(("pruned",)), "epochs_spared")
    assert "epochs spared, against that mean" not in pruned
    assert "epochs_spared" not in sweep_tables(make_sweep())


def test_overhead_is_a_share_of_the_time_of_trials(make_sweep):
    """60 ms of 15 s for completed trials, of 4.5 s for pruned ones."""
    share = 14 * 0.06 / (12 * 15 + 2 * 4.5)
    assert (
        f"{share * 100:.1f}% of the trials' time"
        in sweep_tables(make_sweep(MIXED))["time_spent"].note
    )
    assert rows_of(make_sweep(MIXED), "time_spent")["overhead a trial, median"] == 60


def test_each_improvement_costs_the_time_until_then(make_sweep):
    record = make_sweep()
    found = sweep_tables(record)["cost_per_point"].records()
    values = [row["best NDCG@10"] for row in found]
    assert values == sorted(set(values))
    last = found[-1]
    assert last["seconds spent"] == pytest.approx(15.0 * (last["trial"] + 1))
    gained = values[-1] - record.trials[0].values[0]
    assert last["over the default"] == pytest.approx(gained)
    assert last["seconds a point"] == pytest.approx(last["seconds spent"] / (gained * 100))


def test_a_lost_default_is_the_trial_that_repeated_it(make_sweep):
    """Everywhere: in the key figures, too, and where no other trial was better."""
    first, other, again = make_sweep(("failed", "complete", "complete")).trials
    retry = dataclasses.replace(again, retry_of=0, origin="default", values=(0.9,))
    record = make_sweep(trials=(first, other, retry))
    assert record.default == retry
    assert key_table(record).records()[0]["default"] == 0.9
    assert "No trial was better than the default" in build_sweep_report(record).summary


def test_settings_go_by_their_shortest_name_of_their_own(make_sweep):
    space = {name: {"choice": [1]} for name in ("a.lr", "b.c.dim", "d.c.dim", "c.dim")}
    names = short_names(make_sweep((), space=space))
    assert names == {"a.lr": "lr", "b.c.dim": "b.c.dim", "d.c.dim": "d.c.dim", "c.dim": "c.dim"}


def test_baselines_are_shown_at_the_list_length_of_the_objective(make_sweep):
    values = {"recall@5": 0.1, "recall@10": 0.2, "ndcg@10": 0.3, "sampled_ndcg@10": 0.9}
    table = sweep_tables(make_sweep(baselines={"popularity": values}))["baselines"]
    assert table.columns == ("recommender", "NDCG@10", "Recall@10")


def test_tables_survive_json(make_sweep):
    for table in sweep_tables(with_finalists(make_sweep(MIXED))).values():
        assert Table.from_json(table.to_json()) == table


def test_where_the_time_went_adds_up_to_the_sweeps(make_sweep):
    parts = {"start-up": 12.5, "search": 200.0, "final run": 40.0}
    rows = rows_of(make_sweep(seconds=300.0, parts=parts), "time_spent")
    assert {name: value for name, value in rows.items() if name.startswith("of it ")} == {
        "of it start-up": 12.5,
        "of it search": 200.0,
        "of it final run": 40.0,
        "of it the rest": 47.5,
    }
    assert "of it the rest" not in rows_of(make_sweep(), "time_spent")


def test_a_default_of_zero_under_a_logarithmic_range_has_a_report(make_sweep, tmp_path):
    """It lies outside the space, as that of the weight decay does in the shipped ``full``."""
    record = with_default(make_sweep(), **{"training.learning_rate": 0.0})
    markdown, _ = written(record, tmp_path)
    assert "| training.learning_rate |" in markdown
