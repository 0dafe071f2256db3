import pytest

from sweeps.parallel import parallel_figure
from sweeps.record import Objective
from tests.sweeps.trials import with_trials

RATE = "training.learning_rate"


def sweep_of(make_sweep, values, *, pruned=(), direction="maximize"):
    """A record whose trials have these values, and pruned ones that ended at theirs."""
    states = (*("complete",) * len(values), *("pruned",) * len(pruned))
    record = make_sweep(states, objectives=(Objective("ndcg@10", direction),))
    reached = [*values, *pruned]

    def outcome(trial):
        value = reached[trial.number]
        return {
            "values": (value,) if trial.state == "complete" else None,
            "intermediate": {1: value},
        }

    return with_trials(record, outcome)


def groups(record):
    return {trace.name: trace for trace in parallel_figure(record).data}


def heights(trace):
    """On the objective's axis, line by line."""
    return [y for x, y in zip(trace.x, trace.y, strict=True) if x == 0]


def test_the_best_are_drawn_last_and_pruned_ones_first_and_thin(make_sweep):
    values = [0.1 + 0.001 * number for number in range(40)]
    found = groups(sweep_of(make_sweep, values, pruned=[0.05, 0.06]))
    assert list(found) == ["pruned", "worse half", "better half", "best tenth", "best"]
    assert [len(heights(trace)) for trace in found.values()] == [2, 20, 16, 3, 1]
    widths = [trace.line.width for trace in found.values()]
    assert widths == sorted(widths) and heights(found["best"]) == [1.0]
    for trace in found.values():  # the worst first within each
        assert heights(trace) == sorted(heights(trace))


@pytest.mark.parametrize(("sign", "direction"), [(1, "maximize"), (-1, "minimize")])
def test_hopeless_trials_leave_the_axis_to_the_others(make_sweep, sign, direction):
    values = [-90.0, -80.0, *(0.1 + 0.01 * number for number in range(10))]
    record = sweep_of(make_sweep, [sign * value for value in values], direction=direction)
    found = groups(record)
    assert heights(found["worse half"])[:2] == [0.0, 0.0]
    shown = sorted(height for trace in found.values() for height in heights(trace))
    assert sum(height > 0.2 for height in shown) >= 7
    texts = [note.text for note in parallel_figure(record).layout.annotations]
    assert any(text.endswith(" or worse") for text in texts)
    few = sweep_of(make_sweep, [0.1, 0.2, 0.3])
    assert not any("worse" in note.text for note in parallel_figure(few).layout.annotations)


def test_settings_stand_where_their_scale_has_them(make_sweep):
    params = [
        {RATE: 0.001},
        {RATE: 0.01, "training.steps": 3},
        {RATE: 0.1, "training.steps": 3},
    ]
    record = sweep_of(make_sweep, [0.1, 0.2, 0.3])
    record = with_trials(record, lambda trial: {"params": params[trial.number]})
    figure = parallel_figure(record)
    (best,) = (trace for trace in figure.data if trace.name == "best")
    assert list(best.y[:2]) == [1.0, pytest.approx(1.0)]
    lines = {trace.text[0].split("</b>")[0]: trace.y for trace in figure.data}
    assert lines["<b>trial 1"][1] == pytest.approx(0.5)  # by the logarithm
    assert lines["<b>trial 0"][2] < 0  # it lacks the setting
    assert "missing" in [note.text for note in figure.layout.annotations]


def test_what_breaks_a_constraint_is_dotted(two_objectives):
    traces = {trace.name: trace for trace in parallel_figure(two_objectives).data}
    assert traces["beyond a constraint"].line.dash == "dot"
    assert len(heights(traces["beyond a constraint"])) == 5
