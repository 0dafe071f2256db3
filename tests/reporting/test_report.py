"""Whole reports: what they say, in every state a run can be left in."""

import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from recsys.config import Config
from recsys.evaluation.tables import Table
from recsys.reporting.report import build_report, write_report

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """The tags and the text of a page; closing what is not open is an error."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in {"href", "src"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def written(make_run_dir):
    """Markdown and page of a run with the given changes."""

    def write(**changes):
        markdown, html = write_report(make_run_dir(**changes))
        return markdown.read_text(encoding="utf-8"), Page(html.read_text(encoding="utf-8"))

    return write


def test_both_reports_say_the_outcome_in_plain_words(written):
    said = (
        "Ranking the whole catalogue for 1,100 users, mimic-1 reaches NDCG@10 0.200 (95% "
        "interval 0.190 to 0.210) on the test items, 0.050 above the best baseline, EASE, with "
        "0.150. The other baselines reach: popularity 0.050. The best attainable, by the "
        "preferences that generated the data, is 0.400: the model reaches 50% of it."
    )
    markdown, page = written()
    assert said in markdown
    assert said in page.text


def test_all_parts_are_there(written):
    markdown, page = written()
    for title in (
        *("Results", "Second view: sampled candidates", "Learning curves", "Data and split"),
        *("Embeddings", "Examples", "Further tables", "Settings", "Environment and reproduction"),
    ):
        assert f"## {title}\n" in markdown
        assert title in page.text
    for detail in ("sha256:abc", "training.early_stopping.monitor", "abcdef0", "--config quick"):
        assert detail in markdown
        assert detail in page.text


@pytest.mark.parametrize(("n_samples", "is_there"), [(899, True), (900, False)])
def test_candidates_that_are_the_whole_catalogue_are_no_view_of_their_own(
    written, n_samples, is_there
):
    given = {"evaluation": {"candidate_samples": n_samples}}
    markdown, _ = written(config=Config.model_validate(given).model_dump(mode="json"))
    assert ("sampled candidates" in markdown) == is_there


def test_intervals_are_named_by_their_level(written):
    config = Config.model_validate({"evaluation": {"confidence": 0.9}}).model_dump(mode="json")
    markdown, _ = written(config=config)
    assert "(90% interval 0.190 to 0.210)" in markdown
    assert "95%" not in markdown


def test_filter_steps_say_what_each_dropped(written):
    markdown, _ = written()
    assert "| read | 1,500 | 1,000 | 35,000 | – | – | – |" in markdown
    assert "| min rating | 1,450 | 990 | 34,000 | 1,000 | 50 | 10 |" in markdown
    assert "| k core | 1,200 | 900 | 32,200 | 1,800 | 250 | 90 |" in markdown


def test_a_page_fetches_nothing_and_points_only_into_itself(written):
    _, page = written()
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)


def test_every_chart_is_on_the_page_and_a_well_formed_file(make_run_dir):
    run_dir = make_run_dir()
    _, html = write_report(run_dir)
    files = sorted((run_dir / "figures").iterdir())
    names = {file.stem for file in files}
    assert names >= {"metrics", "train_loss", "validation", "gate_by_popularity", "norms_id"}
    for file in files:
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert Page(html.read_text(encoding="utf-8")).tags.count("svg") == len(files)


def test_markdown_shows_each_chart_from_wherever_it_lies(make_run_dir, tmp_path):
    also = tmp_path / "reports" / "deep" / "summary.md"
    markdown, html = write_report(make_run_dir(), also=also)
    assert also.with_suffix(".html").read_bytes() == html.read_bytes()
    drawn = {file.resolve() for file in (markdown.parent / "figures").glob("*.svg")}
    for path in (markdown, also):
        linked = re.findall(r"^!\[[^]]+\]\(([^)]+)\)$", path.read_text(), re.MULTILINE)
        assert {(path.parent / unquote(link)).resolve() for link in linked} == drawn


def test_metrics_that_are_one_number_are_told_once(written, make_record):
    evaluation = make_record().evaluation
    means = evaluation.model.means
    means |= {"hit_rate@10": means["recall@10"], "map@10": 0.15, "mrr@10": 0.15}
    for most, rows in ((1, 3), (2, 5)):
        dataset = make_record().dataset | {"most_held_out": {"validation": 1, "test": most}}
        markdown, _ = written(evaluation=evaluation, dataset=dataset)
        table = markdown.split("### Finding the held-out items\n")[1].split("###")[0]
        assert sum("@10 |" in line for line in table.splitlines()) == rows
        assert ("hit rate is recall" in table) == (most == 1)


def test_segments_and_train_interactions_are_drawn_without_those_that_nobody_is_in(
    make_record, tables
):
    columns = ("kind", "train_interactions", "n", "ndcg@10", "ease_ndcg@10", "oracle_ndcg@10")
    rows = (("users", "0", 4, 0.1, 0.2, 0.9), ("users", "1", 0, None, None, None))
    by_count = Table("by_train_interactions", "By number", "", columns, rows)
    report = build_report(make_record(), {**tables, "by_train_interactions": by_count})
    (figure,) = [each for each in report.figures if each.name.startswith("cold_start")]
    assert figure.caption == "Number of users: 0: 4."
    assert figure.svg.count("<rect") == 2 + 2  # the legend and the bars of the model and EASE


def test_titles_are_shown_and_never_run(written):
    markdown, page = written()
    assert 'The <script>alert("x")</script> | Æther & “Co” *_`[a](b)' in page.text
    assert "script" not in page.tags
    assert r"\<script>" in markdown
    row = next(line for line in markdown.splitlines() if "alert" in line)
    assert row.replace(r"\|", "").count("|") == 9  # 8 columns


def test_an_interrupted_run_shows_its_history(written, make_record):
    history = make_record().history[:1]
    markdown, page = written(
        status="interrupted", evaluation=None, best_epoch=None, history=history, given={}
    )
    assert "interrupted after 1 epoch;" in markdown
    assert "## Learning curves" in markdown
    assert "## Results" not in markdown
    assert "kept" not in page.text


def test_a_run_that_failed_before_its_first_epoch_says_why(written):
    markdown, _ = written(
        status="failed",
        error="no space left",
        evaluation=None,
        history=[],
        best_epoch=None,
        given={},
    )
    assert "This run failed: no space left." in markdown
    assert "No epoch was finished." in markdown


def test_a_skipped_evaluation_says_why(written, make_record):
    reason = "the data has no order"
    nothing = {"means": {}, "intervals": {}}
    evaluation = {"split": "test", "skipped": reason, "n_users": 0, "model": nothing}
    dataset = make_record().dataset | {"split": {"strategy": "leave_latest_out", "skipped": reason}}
    markdown, page = written(evaluation=evaluation | {"baselines": {}}, dataset=dataset)
    for said in (f"Evaluation was skipped: {reason}.", f"The split was skipped: {reason}."):
        assert said in markdown
        assert said in page.text
    assert "## Results" not in markdown


def test_the_report_says_how_validation_was_cut_from_a_ready_made_split(written, make_record):
    note = "validation is cut at random from train, 10% of each user's interactions"
    split = {"strategy": "given", "order": "timestamp", "skipped": None, "note": note}
    markdown, page = written(dataset=make_record().dataset | {"split": split})
    assert f"Split: given; {note}." in page.text
    assert note in markdown


def test_without_an_oracle_no_best_is_claimed(written, make_record):
    evaluation = make_record().evaluation
    del evaluation.baselines["oracle"]
    markdown, _ = written(evaluation=evaluation, oracle=None)
    assert "best attainable" not in markdown
    assert "oracle" not in markdown


def test_the_true_preferences_are_no_bound_where_new_items_are_held_out(written, make_record):
    plain, record = written()[0], make_record()
    split = record.split | {"strategy": "cold_items"}
    new = written(dataset=record.dataset | {"split": split})[0]
    assert "best attainable" in plain and "which do not know" not in plain
    assert "best attainable" not in new
    assert "which do not know that whatever is held out is new." in new


def test_a_report_begins_with_new_items_alone_where_training_watched_these(written, make_record):
    record = make_record()
    config = Config.model_validate({"data": {"split": {"strategy": "cold_items"}}})
    for scores in record.evaluation.systems.values():
        new = {f"new_{name}": value / 2 for name, value in scores.means.items()}
        scores.means.update(new)
    split = record.split | {"strategy": "cold_items"}
    markdown, _ = written(
        evaluation=record.evaluation,
        config=config.model_dump(mode="json"),
        dataset=record.dataset | {"split": split},
    )
    assert "Ranking new items alone for 1,100 users, mimic-1 reaches NDCG@10 among new" in markdown
    assert "the model reaches 50% of it" in markdown  # ranked alone, the true preferences are best
    heads = [markdown.index(head) for head in ("NDCG@10 among new |", "### Among all items")]
    assert heads == sorted(heads)
    assert "| NDCG@10 |" in markdown[heads[1] :]


def test_the_expected_best_stands_in_where_the_oracle_was_not_ranked(written, make_record):
    evaluation = make_record().evaluation
    del evaluation.baselines["oracle"]
    markdown, _ = written(evaluation=evaluation)
    assert "is 0.410: the model reaches 49% of it." in markdown


def test_a_run_without_gates_has_no_gate_chart(written, tables):
    del tables["gates_by_popularity"]
    markdown, _ = written(given=tables)
    assert "gate_by_popularity" not in markdown
    assert "norms_id" in markdown


def test_gaps_are_dashes(written, make_record):
    nan = float("nan")
    record = make_record()
    for name, scores in record.evaluation.systems.items():
        if name != "oracle":
            scores.means.update(dict.fromkeys(scores.means, nan))
            scores.intervals.update(dict.fromkeys(scores.intervals, (nan, nan)))
    history = [dataclasses.replace(epoch, validation={"ndcg@10": nan}) for epoch in record.history]
    markdown, page = written(evaluation=record.evaluation, history=history)
    assert "| NDCG@10 | – |" in markdown
    assert "nan" not in markdown.lower()
    assert "No test user had an item to find." in page.text


def test_a_baseline_without_a_hit_has_no_ratio(make_record):
    evaluation = make_record().evaluation
    evaluation.baselines["popularity"].means["ndcg@10"] = 0.0
    figures = {f.label: f for f in build_report(make_record(evaluation=evaluation), {}).key_figures}
    assert (figures["Popularity"].value, figures["Popularity"].detail) == ("0.000", "by NDCG@10")
    assert figures["EASE"].detail == "the model: 1.33 times"


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (
            *(0.03, 0.07, 0.02),
            "on the test items, 0.050 above the best baseline, EASE, with 0.150 (95% interval of "
            "the difference 0.030 to 0.070, p = 0.020 after Holm's correction).",
        ),
        (-0.07, -0.03, 0.0001, "0.050 below the best baseline, EASE, with 0.150"),
        (
            *(-0.05, 0.15, 0.02),
            "which cannot be told from the best baseline, EASE, with 0.150 (difference 0.050, "
            "95% interval of the difference -0.050 to 0.150, p = 0.020 after Holm's correction).",
        ),
        (0.01, 0.09, 0.06, "which cannot be told from the best baseline, EASE, with 0.150"),
    ],
)
def test_the_first_sentence_tells_the_best_baseline(make_record, low, high, p, said):
    table = Table(
        "versus_baselines",
        "Model against baselines",
        "",
        ("baseline", "metric", "difference", "low", "high", "p_corrected"),
        (
            ("popularity", "ndcg@10", 9.0, 9.0, 9.0, 1.0),
            ("ease", "recall@10", 9.0, 9.0, 9.0, 1.0),
            ("ease", "ndcg@10", (low + high) / 2, low, high, p),
        ),
    )
    assert said in build_report(make_record(), {table.name: table}).summary


def cold(*rows):
    """The table of the model against baselines where little is known."""
    columns = ("kind", "baseline", "n", "model", "baseline_value", "difference", "low", "high")
    return {"versus_baselines_cold": Table("versus_baselines_cold", "Cold", "", columns, rows)}


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (
            0.01,
            "The towers earn their place on cold items: NDCG 0.050 against 0.020 of EASE on cold "
            "items (1,234 held out, interval of the difference 0.010 to 0.040), 0.100 against "
            "0.300 of popularity on cold users (90 judged, interval of the difference -0.300 to "
            "-0.100).",
        ),
        (-0.01, "Where little is known the towers are not shown to be better than the best"),
    ],
)
def test_a_sentence_says_where_towers_earn_their_place(make_record, low, said):
    table = cold(
        ("items", "popularity", 1234, 0.05, 0.0, 0.05, 0.04, 0.06),
        ("items", "ease", 1234, 0.05, 0.02, 0.03, low, 0.04),
        ("users", "popularity", 90, 0.1, 0.3, -0.2, -0.3, -0.1),
        ("users", "ease", 90, 0.1, 0.2, -0.1, -0.2, 0.0),
    )
    assert said in build_report(make_record(), table).summary


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (0.01, "The towers earn their place on cold items and new items among themselves: NDCG"),
        (-0.01, "Where little is known the towers are not shown to be better than the best"),
    ],
)
def test_cold_items_that_are_all_ranked_high_earn_nothing(make_record, low, said):
    table = cold(
        ("items", "ease", 1234, 0.24, 0.0, 0.24, 0.23, 0.25),
        ("new items", "content_knn", 1234, 0.35, 0.34, 0.01, low, 0.02),
    )
    summary = build_report(make_record(), table).summary
    assert said in summary
    assert (
        "0.350 against 0.340 of ContentKNN on new items among themselves (1,234 judged" in summary
    )


def test_a_handful_of_cold_items_says_nothing(make_record):
    table = cold(
        ("items", "ease", 19, 1.0, 0.0, 1.0, 1.0, 1.0),
        ("users", "ease", 20, 0.2, 0.1, 0.1, 0.05, 0.15),
    )
    said = build_report(make_record(), table).summary
    assert "on cold users: NDCG 0.200" in said and "cold items" not in said
    assert "towers" not in build_report(make_record(), cold()).summary


def test_baselines_that_were_too_large_are_named(written, tables):
    reason = "left out: 40,981 items squared need 13.4 GB, and the limit is 2,048"
    table = Table(
        "baseline_tuning",
        "Settings of the baselines",
        "",
        ("baseline", "settings", "chosen"),
        (("popularity", "", "yes"), ("ease", reason, None)),
    )
    markdown, _ = written(given={**tables, table.name: table})
    assert f"EASE was {reason}." in markdown


def test_reporting_needs_neither_torch_nor_mlflow():
    code = (
        "import sys, recsys.reporting.report\n"
        "sys.exit(bool({'torch', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
