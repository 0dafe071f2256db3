"""MLflow's UI in a real browser: what somebody sees there who knows MLflow and nothing of us."""

import json
import re
from urllib.parse import quote

import pandas as pd
import pytest

from recsys.reporting.record import RunRecord
from tracking.store import connect, how_to_look

playwright = pytest.importorskip("playwright.sync_api", reason="pages are seen with playwright")
expect = playwright.expect
pytestmark = pytest.mark.slow
VIEW = "viewStateShareKey=bookends"
WIDE = "wide-towers"
DIM = "cfg.model.user_encoder.id_embedding.params.embedding_dim"
CHAMPION = re.compile(r"@\s*champion")


@pytest.fixture(scope="module")
def client(world):
    return connect(world.uri)


@pytest.fixture(scope="module")
def comparison_id(world, client):
    name = f"attributes.run_name = '{world.comparison}'"
    return client.search_runs([world.experiment_id], name)[0].info.run_id


def runs(world, options=""):
    return f"#/experiments/{world.experiment_id}/runs?{VIEW}{options}"


def run_page(world, run_id, place=""):
    return f"#/experiments/{world.experiment_id}/runs/{run_id}{place}"


def name_cell(page, name):
    return page.locator("[role=gridcell][col-id='attributes.`Run Name`']").filter(
        has=page.get_by_role("link", name=name, exact=True)
    )


def columns(page):
    """Columns of the runs table from left to right, without the fixed ones."""
    return page.locator(".ag-header-viewport .ag-header-cell").evaluate_all(
        "cells => cells.map(cell => [cell.getBoundingClientRect().left, cell])"
        ".sort((a, b) => a[0] - b[0]).map(pair => pair[1].getAttribute('col-id'))"
    )


def column(group, key):
    return f"{group}.`{key}`"


def cell(page, run_id, group, key):
    return page.locator(f'.ag-row[row-id="{run_id}"] [col-id="{column(group, key)}"]')


def sections(page):
    """The sections of charts by name: whether they are open."""
    found = page.get_by_test_id("experiment-view-compare-runs-section-header")
    texts = found.all_inner_texts()
    states = found.evaluate_all(
        "headers => headers.map(header => header.closest('[aria-expanded]').ariaExpanded)"
    )
    return {text.split("\n")[0]: state == "true" for text, state in zip(texts, states, strict=True)}


def chart(page, title):
    card = page.get_by_test_id("experiment-view-compare-runs-card")
    return card.filter(has_text=re.compile(rf"^{re.escape(title)}"))


def is_drawn(locator):
    """Drawn with an extent: neither hidden, nor of no height."""
    boxes = locator.evaluate_all(
        "marks => marks.map(mark => mark.getBoundingClientRect())"
        ".map(box => box.width > 20 && box.height > 5)"
    )
    return bool(boxes) and all(boxes)


# Runs -------------------------------------------------------------------------------------------


def test_the_experiments_description_opens_the_view_with_the_columns_that_matter(
    world, context, visit, keep
):
    page = visit(f"#/experiments/{world.experiment_id}/runs")
    with context.expect_page() as opened:
        page.get_by_role("link", name="Open the view").click()
    table = opened.value
    expect(table.get_by_test_id("saved-views-trigger")).to_have_text("Bookends")
    for name in [*world.run_ids, world.sweep_name, world.comparison]:
        expect(name_cell(table, name)).to_be_visible()
    expect(cell(table, world.run_ids[WIDE], "metrics", "test/ndcg_at_10")).to_be_visible()
    keep(table, "runs-table")
    assert columns(table)[:9] == [
        "metrics.`test/ndcg_at_10`",
        "metrics.`best/ndcg_at_10`",
        "metrics.`test/recall_at_10`",
        "metrics.`test/coverage_at_10`",
        "metrics.`item_knn/ndcg_at_10`",
        "metrics.`ease/ndcg_at_10`",
        "params.`cfg.model.item_encoder.fusion`",
        "params.`cfg.model.user_encoder.id_embedding.params.embedding_dim`",
        "params.`cfg.training.learning_rate`",
    ]
    assert next(iter(world.run_ids)).startswith("softmax-sum-")  # it was given no name
    table.close()


def test_the_runs_table_holds_the_figures_of_each_run(world, visit, client):
    page = visit(runs(world))
    for run_id in world.run_ids.values():
        data = client.get_run(run_id).data
        for key in ("test/ndcg_at_10", "ease/ndcg_at_10", "best/ndcg_at_10"):
            shown = cell(page, run_id, "metrics", key)
            expect(shown).to_have_text(re.compile(r"^0\.\d+$"))
            assert float(shown.inner_text()) == pytest.approx(data.metrics[key])
        expect(cell(page, run_id, "params", DIM)).to_have_text(data.params[DIM])


def test_a_sweep_unfolds_into_its_trials_and_folds_again(world, visit, keep, client):
    page = visit(runs(world))
    sweep = name_cell(page, world.sweep_name)
    expect(sweep).to_be_visible()
    for trial in world.trials:
        expect(name_cell(page, trial)).to_have_count(0)
    sweep.get_by_role("button").click()
    for trial in world.trials:
        expect(name_cell(page, trial)).to_be_visible()
    rate = column("params", "cfg.training.learning_rate")
    (first,) = client.search_runs([world.experiment_id], "attributes.run_name = 'trial 1'")
    expect(page.locator(f'.ag-row[row-id="{first.info.run_id}"] [col-id="{rate}"]')).to_have_text(
        first.data.params["cfg.training.learning_rate"]
    )
    keep(page, "sweep-unfolded")
    sweep.get_by_role("button").click()
    for trial in world.trials:
        expect(name_cell(page, trial)).to_have_count(0)


# Charts -----------------------------------------------------------------------------------------


def test_the_charts_begin_with_the_monitored_metric_and_are_grouped(world, visit, keep):
    page = visit(runs(world, "&compareRunsMode=CHART"))
    lines = chart(page, "val/ndcg_at_10").locator(".scatterlayer .trace .js-line")
    expect(lines.nth(2)).to_be_visible()
    bars = chart(page, "test/ndcg_at_10").locator(".bars .point path")
    expect(bars).to_have_count(3)
    expect(chart(page, "Parallel Coordinates").locator("canvas").first).to_be_visible()
    keep(page, "charts")
    assert is_drawn(lines) and is_drawn(bars)
    curves = lines.evaluate_all("lines => lines.map(line => line.getAttribute('d'))")
    assert len(set(curves)) == 3  # one of each run; MLflow draws each twice
    expect(chart(page, "val/ndcg_at_10")).to_contain_text("Step")
    groups = sections(page)
    assert list(groups)[:5] == ["at a glance", "best", "val", "train", "test"]
    assert all(groups[name] for name in list(groups)[:5])
    assert {"popularity", "oracle", "run", "model"} <= {
        n for n, is_open in groups.items() if not is_open
    }


def test_every_metric_has_its_chart_in_the_group_of_its_name(world, visit, client):
    page = visit(runs(world, "&compareRunsMode=CHART"))
    expect(chart(page, "val/ndcg_at_10").locator(".js-line").first).to_be_visible()
    header = page.get_by_test_id("experiment-view-compare-runs-section-header")
    metrics = client.get_run(world.run_ids[WIDE]).data.metrics
    n_test = sum(key.startswith("test/") for key in metrics)
    expect(header.filter(has_text=re.compile("^test[^_]"))).to_contain_text(f"({n_test - 1})")


def test_compared_runs_are_drawn_by_the_settings_that_differ(world, visit, keep):
    ids, experiments = (
        quote(json.dumps(values))
        for values in (list(world.run_ids.values()), [world.experiment_id])
    )
    page = visit(f"#/compare-runs?runs={ids}&experiments={experiments}")
    axes = page.locator(".parcoords .axis-title")
    expect(axes.filter(has_text=re.compile(r"^cfg\.model")).first).to_be_visible()
    expect(axes.filter(has_text="val/ndcg_at_10").first).to_be_visible()
    expect(page.locator(".parcoords-line-layers canvas, canvas.gl-canvas").first).to_be_visible()
    for name in world.run_ids:
        expect(page.get_by_role("cell", name=name, exact=True).first).to_be_visible()
    keep(page, "compare-parallel")
    row = page.get_by_role("row")
    expect(row.filter(has_text=DIM)).to_have_class("diff-row")
    expect(row.filter(has_text="cfg.model.item_encoder.fusion")).to_have_class("diff-row")
    expect(row.filter(has_text="cfg.training.batch_size")).not_to_have_class("diff-row")
    page.get_by_role("switch").first.click()
    expect(row.filter(has_text="cfg.training.batch_size")).to_have_count(0)
    row.filter(has_text=DIM).scroll_into_view_if_needed()
    keep(page, "compare-differences")


# A run ------------------------------------------------------------------------------------------


def test_a_runs_page_begins_with_its_key_figures(world, visit, keep):
    record = RunRecord.read(world.run_dir)
    page = visit(run_page(world, world.run_ids[WIDE]))
    table = page.locator(".note-view-outer-container table")
    expect(table).to_be_visible()
    keep(page, "run-page")
    assert [head.strip() for head in table.locator("th").all_inner_texts()] == [
        "test",
        "model",
        *record.evaluation.baselines,
        "95% interval of the model",
    ]
    low, high = record.evaluation.model.intervals["ndcg@10"]
    figures = [
        "ndcg@10",
        *(f"{scores.means['ndcg@10']:.4f}" for scores in record.evaluation.systems.values()),
        f"{low:.4f} to {high:.4f}",
    ]
    assert table.locator("tr").nth(1).locator("td").all_inner_texts() == figures
    expect(page.get_by_text("Show more")).to_have_count(0)
    expect(page.get_by_text("sample/books.csv+users.csv").first).to_be_visible()
    expect(page.get_by_role("link", name="best/ndcg_at_10", exact=True)).to_be_visible()


def test_report_md_is_rendered(world, visit, keep):
    record = RunRecord.read(world.run_dir)
    page = visit(run_page(world, world.run_ids[WIDE], "/artifacts/report.md"))
    expect(page.get_by_role("heading", name="Results", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name=WIDE, level=1).last).to_be_visible()
    keep(page, "report-md")
    value = f"{record.evaluation.model.means['ndcg@10']:.4f}"
    expect(page.get_by_role("row").filter(has_text="NDCG@10").first).to_contain_text(value)
    assert "|---" not in page.locator("body").inner_text()
    broken = "images => images.filter(image => image.naturalWidth === 0).map(image => image.src)"
    assert page.locator("img").evaluate_all(broken) == []


def test_report_html_shows_text_and_charts_with_nothing_from_outside(world, visit, keep):
    record = RunRecord.read(world.run_dir)
    page = visit(run_page(world, world.run_ids[WIDE], "/artifacts/report.html"))
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name=WIDE)).to_be_visible()
    n_users = re.compile(rf"{record.evaluation.n_users:,} users")
    expect(report.get_by_text(n_users).first).to_be_visible()
    keep(page, "report-html")
    charts = report.locator("figure svg")
    assert charts.count() >= 5
    charts.first.scroll_into_view_if_needed()
    keep(page, "report-html-charts")
    for position in range(charts.count()):
        box = charts.nth(position).bounding_box()
        assert box["width"] > 100 and box["height"] > 60
        assert charts.nth(position).locator("path, rect, line, polyline, circle").count() > 3


def test_a_diagnostics_table_is_paged(world, visit, keep):
    place = "/artifacts/tables/dimension_spread.json"
    page = visit(run_page(world, world.run_ids[WIDE], place))
    expect(page.get_by_text("View as table")).to_be_visible()
    heads = page.get_by_role("columnheader")
    expect(heads.filter(has_text="share_of_variance")).to_be_visible()
    row = page.get_by_role("row").nth(1)
    first = row.inner_text()
    assert first.split("\n")[:3] == ["user", "tower", "0"]
    keep(page, "table-page-1")
    page.get_by_role("listitem", name="2", exact=True).click()
    expect(row).not_to_have_text(re.compile(r"^usertower0"))
    second = int(row.inner_text().split("\n")[2])
    assert second >= 10
    keep(page, "table-page-2")
    cells = row.get_by_role("cell")
    assert not cells.evaluate_all(
        "cells => cells.some(cell => cell.firstElementChild?.scrollWidth > cell.clientWidth + 1)"
    )


def test_the_figures_of_each_user_are_shown_as_a_table(world, visit, keep):
    user = pd.read_parquet(world.run_dir / "per_user.parquet").iloc[0]
    page = visit(run_page(world, world.run_ids[WIDE], "/artifacts/per_user_preview.csv"))
    expect(page.get_by_text("Previewing the first 200 rows")).to_be_visible()
    row = page.get_by_role("row").filter(has_text=user.user_id)
    expect(row).to_contain_text(f"{user.user_id}{user.n_train}{user.segment}")
    keep(page, "per-user")


# A sweep, a comparison, a registered model ------------------------------------------------------


def test_a_sweeps_page_tells_what_came_out_and_lists_its_trials(world, visit, keep):
    page = visit(run_page(world, world.sweep_id))
    expect(page.get_by_text("The sweep searched 2 settings")).to_be_visible()
    for trial in world.trials:
        expect(page.get_by_role("link", name=trial, exact=True)).to_be_visible()
    keep(page, "sweep-page")


def test_a_sweeps_report_shows_text_and_charts(world, visit, keep):
    page = visit(run_page(world, world.sweep_id, "/artifacts/sweep_report.html"))
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name=world.sweep_name)).to_be_visible()
    expect(report.locator("figure svg").first).to_be_visible()
    report.locator("figure svg").first.scroll_into_view_if_needed()
    keep(page, "sweep-report")


def test_a_comparisons_page_tells_the_verdict_and_its_figures(world, comparison_id, visit, keep):
    page = visit(run_page(world, comparison_id))
    note = page.locator(".note-view-outer-container").first
    expect(note).to_contain_text("concatenated is worse than softmax-sum-")
    expect(page.get_by_text("bookends.verdict")).to_be_visible()
    keep(page, "comparison-page")
    page.get_by_text("Show more").click()
    row = note.get_by_role("row").filter(has_text="NDCG@10")
    expect(row).to_be_visible()
    expect(row).to_contain_text("worse")


@pytest.mark.parametrize("suffix", ["md", "html"])
def test_a_comparisons_report_is_rendered(world, comparison_id, visit, keep, suffix):
    page = visit(run_page(world, comparison_id, f"/artifacts/comparison.{suffix}"))
    shown = page.frame_locator("iframe") if suffix == "html" else page
    title = shown.get_by_role("heading", name=re.compile("^concatenated against "), level=1)
    expect(title).to_be_visible()
    row = shown.get_by_role("row").filter(has_text="NDCG@10").filter(has_text="worse").first
    expect(row).to_contain_text(re.compile(r"[-−]\d\.\d\d"))
    keep(page, f"comparison-{suffix}")


def test_the_registered_model_says_which_version_is_champion_and_why(world, visit, keep):
    page = visit("#/models/bookends")
    expect(page.get_by_text("models:/bookends@champion")).to_be_visible()
    expect(page.get_by_role("cell", name="through the gate")).to_be_visible()
    first = page.get_by_role("row").filter(has=page.get_by_role("link", name="Version 1"))
    second = page.get_by_role("row").filter(has=page.get_by_role("link", name="Version 2"))
    keep(page, "model")
    expect(first).to_contain_text(CHAMPION)
    expect(first).to_contain_text("bookends.gate: passed")
    expect(second).to_contain_text("bookends.gate: failed")
    expect(second).not_to_contain_text(CHAMPION)


def test_a_model_version_shows_alias_run_gate_and_key_figures(world, visit, keep):
    page = visit("#/models/bookends/versions/1")
    expect(page.get_by_text(CHAMPION)).to_be_visible()
    expect(page.get_by_role("link", name=next(iter(world.run_ids)))).to_be_visible()
    expect(page.get_by_text("Passed the gate against the popularity baseline")).to_be_visible()
    expect(page.get_by_role("cell", name="ndcg@10", exact=True)).to_be_visible()
    expect(page.get_by_text("bookends.dataset")).to_be_visible()
    keep(page, "model-version")


def test_the_address_that_is_printed_opens_the_view_for_training(context, world):
    run_id = next(iter(world.run_ids.values()))
    address = how_to_look(world.address, world.experiment_id, run_id)["run page"]
    visitor = context.browser.new_context()  # one who was never here
    try:
        page = visitor.new_page()
        page.goto(address)
        page.get_by_text("Model metrics", exact=True).first.wait_for()
        assert page.get_by_text("Prompts", exact=True).count() == 0
        page.goto(address.partition("?")[0])
        page.reload()
        page.get_by_text("Prompts", exact=True).first.wait_for()
    finally:
        visitor.close()
