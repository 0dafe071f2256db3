"""Whole reports: what they say, in every state a run can be left in."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recsys.config import Config
from recsys.evaluation.tables import Table
from recsys.reporting.report import build_report, write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


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
        "Ranking the whole catalogue for 1,100 readers, mimic-1 reaches NDCG@10 0.200 (95 % "
        "interval 0.190 to 0.210) on the test books. Ranking by popularity reaches 0.050; the "
        "model has 4.0 times as much. The best attainable, by the preferences that generated the "
        "data, is 0.400: the model reaches 50 % of it."
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


def test_intervals_are_named_by_their_level(written):
    config = Config.model_validate({"evaluation": {"confidence": 0.9}}).model_dump(mode="json")
    markdown, _ = written(config=config)
    assert "(90 % interval 0.190 to 0.210)" in markdown
    assert "95 %" not in markdown


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


def test_markdown_needs_no_image(written):
    markdown, _ = written()
    assert "![" not in markdown
    assert "<img" not in markdown
    assert "`figures/metrics.svg`" in markdown


def test_titles_are_shown_and_never_run(written):
    markdown, page = written()
    assert 'The <script>alert("x")</script> | Æther & “Co” *_`[a](b)' in page.text
    assert "script" not in page.tags
    assert r"\<script>" in markdown
    row = next(line for line in markdown.splitlines() if "alert" in line)
    assert row.replace(r"\|", "").count("|") == 9  # 8 columns


def test_twice_gives_the_same_bytes(make_run_dir):
    run_dir = make_run_dir()

    def contents():
        write_report(run_dir)
        return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    assert contents() == contents()


def test_copies_go_where_they_are_asked_for(make_run_dir, tmp_path):
    also = tmp_path / "reports" / "deep" / "summary.md"
    markdown, html = write_report(make_run_dir(), also=also)
    assert also.read_bytes() == markdown.read_bytes()
    assert also.with_suffix(".html").read_bytes() == html.read_bytes()


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


def test_without_an_oracle_no_best_is_claimed(written, make_record):
    evaluation = make_record().evaluation
    del evaluation["baselines"]["oracle"]
    markdown, _ = written(evaluation=evaluation, oracle=None)
    assert "best attainable" not in markdown
    assert "oracle" not in markdown


def test_the_expected_best_stands_in_where_the_oracle_was_not_ranked(written, make_record):
    evaluation = make_record().evaluation
    del evaluation["baselines"]["oracle"]
    markdown, _ = written(evaluation=evaluation)
    assert "is 0.410: the model reaches 49 % of it." in markdown


def test_a_run_without_gates_has_no_gate_chart(written, tables):
    del tables["gates_by_popularity"]
    markdown, _ = written(given=tables)
    assert "gate_by_popularity" not in markdown
    assert "norms_id" in markdown


def test_gaps_are_dashes(written, make_record):
    nan = float("nan")
    record = make_record()
    for scores in (record.evaluation["model"], record.evaluation["baselines"]["popularity"]):
        scores["means"] = dict.fromkeys(scores["means"], nan)
        scores["intervals"] = dict.fromkeys(scores["intervals"], (nan, nan))
    history = [epoch | {"validation": {"ndcg@10": nan}} for epoch in record.history]
    markdown, page = written(evaluation=record.evaluation, history=history)
    assert "| NDCG@10 | – |" in markdown
    assert "nan" not in markdown.lower()
    assert "No test reader had a book to find." in page.text


def test_popularity_without_a_hit_has_no_ratio(written, make_record):
    evaluation = make_record().evaluation
    evaluation["baselines"]["popularity"]["means"]["ndcg@10"] = 0.0
    markdown, _ = written(evaluation=evaluation)
    assert "Ranking by popularity reaches 0.000." in markdown


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (
            0.05,
            0.15,
            "The model is better by 0.100, reader by reader (95 % interval 0.050 to 0.150)",
        ),
        (-0.15, -0.05, "The model is worse: its difference is -0.100, reader by reader"),
        (
            -0.05,
            0.25,
            "The difference of 0.100, reader by reader (95 % interval -0.050 to 0.250) cannot",
        ),
    ],
)
def test_the_difference_from_popularity_is_judged_by_its_interval(make_record, low, high, said):
    table = Table(
        "versus_popularity",
        "Model against popularity",
        "",
        ("metric", "difference", "low", "high"),
        (("recall@10", 9.0, 9.0, 9.0), ("ndcg@10", (low + high) / 2, low, high)),
    )
    assert said in build_report(make_record(), {table.name: table}).summary


def test_reporting_needs_neither_torch_nor_mlflow():
    code = (
        "import sys, recsys.reporting.report\n"
        "sys.exit(bool({'torch', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
