import re
import shutil
import subprocess

import numpy as np
import pytest

from sweeps.charts import history_figure
from sweeps.findings import TunedBaseline
from sweeps.plots import draw_plots, render_plots, write_plots
from tests.sweeps.trials import with_default

MIXED = (*("complete",) * 12, "pruned", "failed", "running")


def drawn(record):
    return {plot.name: plot for plot in draw_plots(record)}


def test_every_plot_of_a_mixed_sweep_is_drawn(make_sweep):
    plots = drawn(make_sweep(MIXED))
    assert list(plots) == [
        "history",
        "importances",
        "slices",
        "parallel_coordinates",
        "intermediate_values",
        "timeline",
        "cost",
    ]
    assert all(plot.figure is not None for plot in plots.values())


def test_pruned_trials_are_marked_in_the_history(make_sweep):
    traces = {trace.name: trace for trace in drawn(make_sweep(MIXED))["history"].figure.data}
    assert list(traces["pruned"].x) == [12]
    assert traces["pruned"].marker.color != traces["complete"].marker.color
    assert list(traces["best so far"].y) == list(np.maximum.accumulate(traces["complete"].y))


def test_two_objectives_have_a_front(two_objectives):
    plots = drawn(two_objectives)
    traces = {trace.name: trace for trace in plots["pareto_front"].figure.data}
    front = [trial.values for trial in two_objectives.front()]
    assert list(zip(traces["front"].x, traces["front"].y, strict=True)) == front
    assert len(traces["beyond a constraint"].x) == 5
    assert {"history_0", "history_1", "slices_0", "slices_1"} <= set(plots)


@pytest.mark.parametrize("states", [(), ("pruned",) * 3, ("failed",), ("running",), ("complete",)])
def test_a_sweep_in_any_state_has_a_page(make_sweep, states):
    page = render_plots(make_sweep(states))
    missing = [plot for plot in draw_plots(make_sweep(states)) if plot.figure is None]
    assert page.count("Nothing to draw") == len(missing)
    assert all(plot.reason for plot in missing)


def test_the_page_fetches_nothing_and_holds_the_script_once(make_sweep):
    page = render_plots(make_sweep(MIXED))
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert "default-src 'none'" in page
    assert page.count("* plotly.js v") == 1
    assert len(page) < 6_000_000


def test_a_value_that_looks_like_markup_stays_text(make_sweep):
    page = render_plots(make_sweep(name="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page


def test_axes_go_by_the_last_part_of_a_name_and_a_long_one_is_cut(make_sweep):
    record = with_default(make_sweep(), **{"training.a_name_of_twenty_five_let": 1})
    figure = drawn(record)["parallel_coordinates"].figure
    assert set(figure.layout.xaxis.ticktext) == {
        *("NDCG@10", "fusion", "hidden_dims", "learning_rate", "optimizer", "weight_decay"),
        "a_name_of_twenty_five…",
    }


@pytest.mark.slow
def test_a_browser_without_a_network_draws_every_plot(make_sweep, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium")
    record = make_sweep(MIXED)
    page = write_plots(tmp_path, record)
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    switches += " --disable-background-networking --disable-component-update --disable-sync"
    command = [browser, *switches.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * 0.0.0.0", "--virtual-time-budget=10000"]
    command += ["--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    ready = re.findall(r'<div id="plot_(\w+)"[^>]*class="[^"]*js-plotly-plot', done.stdout)
    assert ready == [plot.name for plot in draw_plots(record)]


def test_tuned_baselines_are_lines_across_the_history(make_sweep):
    tuned = (TunedBaseline("ease", value=0.15), TunedBaseline("bpr", left_out="too large"))
    record = make_sweep(tuned_baselines=tuned, baselines={"ease": {"ndcg@10": 0.15}})
    figure = drawn(record)["history"].figure
    assert [(shape.y0, shape.y1) for shape in figure.layout.shapes] == [(0.15, 0.15)]
    assert [each.text for each in figure.layout.annotations] == ["EASE 0.1500"]
    svg = history_figure(record).svg
    assert svg.count("stroke-dasharray") == 1 and ">EASE</text>" in svg
    assert "stroke-dasharray" not in history_figure(make_sweep()).svg
