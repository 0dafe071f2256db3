"""The outcome of a sweep in plain words, and the numbers that matter."""

from __future__ import annotations

from typing import assert_never

from recsys.baselines.names import baseline_label
from recsys.evaluation.tables import Cell, Table
from recsys.reporting.document import Callout, KeyFigure
from recsys.reporting.formatting import duration, interval, metric_label, number
from sweeps.findings import BaselineComparison, Comparison, SearchEnd, best_baseline
from sweeps.on_test import mean_of_seeds, on_test, test_rows, winners_looks
from sweeps.record import SweepRecord, TrialRecord


def summary(record: SweepRecord) -> str:
    """One paragraph: what was searched, with what budget, what was found, and what to believe."""
    return f"{searched(record)} {findings(record)}"


def findings(record: SweepRecord) -> str:
    """The paragraph without its first sentence, which says what was searched."""
    sentences = [_counts(record), _best(record), _winner(record), against_baselines(record)]
    return " ".join(
        sentence for sentence in [*sentences, _optimism(record), _test(record)] if sentence
    )


def key_table(record: SweepRecord) -> Table:
    """The best found beside the default configuration and the baselines.

    A row an objective on validation, where baselines have no costs, and once test was looked at one
    for the mean over fresh seeds there, one for the run in full. Of the best before there are
    finalists it is one training, after them the mean over fresh seeds.
    """
    finalists, default = record.finalists, record.default
    winner = None if finalists is None else finalists.winning_row
    if winner is None:
        best = next(iter(record.ranked()), None)
    else:
        best = default if winner.is_default else record.trial(winner.trial)
    rows: list[tuple[Cell, ...]] = []
    for index, objective in enumerate(record.objectives):
        values = [_value(trial, index) for trial in (best, default)]
        if finalists is not None and winner is not None and index == 0:
            again = finalists.default_row
            values = [winner.mean, values[1] if again is None else again.mean]
        known = [found.get(objective.metric) for found in record.baselines.values()]
        rows.append((f"{objective.metric} on validation", *values, *known))
    rows += test_rows(record)
    first = "best so far" if winner is None else "winner"
    columns = ("metric", first, "default", *record.baselines)
    return Table("key_figures", "Key figures", "", columns, tuple(rows))


def _value(trial: TrialRecord | None, index: int) -> float | None:
    return None if trial is None or trial.values is None else trial.values[index]


def notices(record: SweepRecord) -> tuple[Callout, ...]:
    """What must be known before the numbers."""
    said = [_status(record), _nothing_completed(record), _no_finalists(record)]
    said += [_beyond_constraints(record), _seed_twice(record), _looks(record)]
    return tuple(Callout(text, "warning") for text in said if text)


def key_figures(record: SweepRecord) -> tuple[KeyFigure, ...]:
    """The numbers for the head of the report."""
    figures = []
    metric = record.objectives[0].label
    finalists, ranked = record.finalists, record.ranked()
    row = None if finalists is None else finalists.winning_row
    if row is not None and row.mean is not None:
        n = len(row.known)
        detail = (
            f"trial {row.trial}, mean of {n} seeds on validation"
            if n > 1
            else f"trial {row.trial}, one seed on validation"
        )
        figures.append(KeyFigure(f"Winner's {metric}", number(row.mean), detail))
    elif ranked and ranked[0].values is not None:
        detail = f"trial {ranked[0].number}, a single training"
        figures.append(KeyFigure(f"Best {metric}", number(ranked[0].values[0]), detail))
    figures += _default_figure(record)
    figures += _gain_figures(record)
    figures += _test_figures(record)
    figures.append(KeyFigure("Trials", str(len(record.trials)), _states(record)))
    figures.append(KeyFigure("Time", duration(record.seconds), _workers(record)))
    return tuple(figures)


def _gain_figures(record: SweepRecord) -> list[KeyFigure]:
    """By how much the winner differs from the default and the best baseline, and how surely."""
    finalists, baseline = record.finalists, record.versus_baseline
    gains: list[tuple[str, Comparison | BaselineComparison]] = [
        ("the default", found)
        for found in (finalists.comparisons if finalists else ())
        if found.roles == "winner against default"
    ]
    gains += [(baseline_label(baseline.baseline), baseline)] if baseline else []
    return [
        KeyFigure(
            f"Winner against {name}",
            ("+" if (found.difference or 0) > 0 else "") + number(found.difference),
            f"{interval(found.low, found.high)}, "
            f"{'beyond chance' if found.is_clear else 'may be chance'}",
        )
        for name, found in gains
    ]


def _test_figures(record: SweepRecord) -> list[KeyFigure]:
    metric = record.objectives[0].metric
    details = (mean_of_seeds(record), "its run in full")
    return [
        KeyFigure(f"On test {metric_label(metric)}", number(look.metrics[metric]), detail)
        for look, detail in zip(winners_looks(record), details, strict=True)
        if look is not None and look.metrics.get(metric) is not None
    ]


def _default_figure(record: SweepRecord) -> list[KeyFigure]:
    title = f"Default's {record.objectives[0].label}"
    row = None if record.finalists is None else record.finalists.default_row
    if row is not None and row.mean is not None:
        return [KeyFigure(title, number(row.mean), "on the same seeds")]
    value = record.default_value
    return [] if value is None else [KeyFigure(title, number(value), "trial 0")]


def searched(record: SweepRecord) -> str:
    """What varied, for what, and how it was searched."""
    names = [name.rpartition(".")[2].replace("_", " ") for name in record.space]
    what = f"{_count(len(names), 'setting')} ({_listed(names)})" if names else "the settings"
    goal = " and ".join(
        f"{'high' if o.direction == 'maximize' else 'low'} {o.label}" for o in record.objectives
    )
    sampler, pruner = record.sampler.get("name"), record.pruner.get("name")
    how = f" with the sampler {sampler}" if sampler else ""
    if pruner and pruner != "none":
        how += f" and the pruner {pruner}"
    return f"The sweep searched {what} for a {goal} on validation{how}."


def _counts(record: SweepRecord) -> str:
    ended = len(record.trials) - len(record.in_state("running"))
    asked = "" if record.n_trials is None else f" of {record.n_trials:,} asked for"
    end, metric = record.search_end, record.objectives[0].metric
    why = "" if end is None or end.why == "trials" else f" {why_ended(end, metric)}"
    return (
        f"{_count(ended, 'trial')}{asked} ended ({_states(record)}); the "
        f"sweep took {duration(record.seconds)} on {_workers(record)}.{why}"
    )


def why_ended(end: SearchEnd, metric: str) -> str:
    """A sentence."""
    trials = _count(end.n_trials, "trial")
    match end.why:
        case "trials":
            return f"The search ended with all of its trials run ({trials})."
        case "hours":
            return f"The search ended after {trials}: its {end.hours or 0:g} hours were over."
        case "asked":
            return f"Ctrl-C ended the search after {trials}; the same command goes on with it."
        case "noise":
            return (
                f"The search ended after {trials}, the rest being noise: {end.spared} more were "
                f"expected to improve {metric_label(metric)} by {number(end.gain)}, less than the "
                f"error of a difference between two finalists, {number(end.error)}. --no-stop goes "
                "on with it."
            )
        case _:
            assert_never(end.why)


def _states(record: SweepRecord) -> str:
    counts = {state: len(record.in_state(state)) for state in ("complete", "pruned", "failed")}
    if record.in_state("running"):
        counts["unfinished"] = len(record.in_state("running"))
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _best(record: SweepRecord) -> str:
    ranked = record.ranked()
    if not ranked or ranked[0].values is None:
        return ""
    value = number(ranked[0].values[0])
    metric = record.objectives[0].label
    default = record.default_value
    if len(record.objectives) > 1:
        return (
            f"{_count(len(record.front()), 'trial')} make up the Pareto front; the best of them in "
            f"{metric} is trial {ranked[0].number} with {value}."
        )
    if default is None:
        return f"The best trial is {ranked[0].number} with {metric} {value}."
    if ranked[0] == record.default:
        return f"No trial was better than the default configuration, with {metric} {value}."
    return (
        f"The best single trial is {ranked[0].number} with {metric} {value}, against "
        f"{number(default)} for the default configuration."
    )


def _winner(record: SweepRecord) -> str:
    finalists = record.finalists
    if finalists is None:
        return ""
    spared = (
        f" ({_count(finalists.n_spared, 'training')} of clear losers spared)"
        if finalists.n_spared
        else ""
    )
    again = f"Trained again on {_count(len(finalists.seeds), 'fresh seed')}{spared}, "
    row = finalists.winning_row
    if row is None:
        return again + "no finalist gave a value."
    named = "the default configuration" if row.is_default else f"trial {row.trial}"
    against = [found for found in finalists.comparisons if found.first == row.trial and found.roles]
    # against the default, that is what a sweep is for
    against.sort(key=lambda found: "default" not in found.roles)
    said = f", {against[0].verdict}" if against else ""
    return f"{again}the winner is {named}{said}."


def against_baselines(record: SweepRecord) -> str:
    """The winner against the best tuned baseline; where nothing won, what that reached."""
    if record.versus_baseline is not None:
        return record.versus_baseline.verdict
    best = best_baseline(record.tuned_baselines, record.objectives[0].direction)
    if best is None:
        return ""
    name = baseline_label(best[0].name)
    return f"The best tuned baseline, {name}, has {number(best[1])} on validation."


def _optimism(record: SweepRecord) -> str:
    found = record.finalists.optimism if record.finalists else None
    if found is None:
        return ""
    parts = []
    if found.retrained is not None:
        way = "better" if found.retrained >= 0 else "worse"
        parts.append(
            f"the best value of the search was {number(abs(found.retrained))} {way} than the mean "
            "of its configuration on fresh seeds"
        )
    if found.modelled is not None:
        parts.append(
            f"the best of {found.n_trials} such trials is expected to look "
            f"{number(found.modelled)} too good"
        )
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _test(record: SweepRecord) -> str:
    looks = record.test_looks
    if not looks:
        return "The test split was not opened."
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    purposes = "; ".join(dict.fromkeys(look.purpose for look in looks))
    said = f"The test split was opened {times} ({purposes})."
    return f"{said} {on_test(record)}".rstrip()


def _status(record: SweepRecord) -> str | None:
    match record.status:
        case "failed":
            return f"This sweep failed{f': {record.error}' if record.error else ''}."
        case "interrupted":
            return (
                "This sweep was interrupted; what follows is what was saved until then. The same "
                "command goes on where it stopped."
            )
        case "running":
            return "This sweep had not ended when its record was written."
        case "finished":
            return None


def _nothing_completed(record: SweepRecord) -> str | None:
    if record.in_state("complete"):
        return None
    if record.trials and len(record.in_state("pruned")) == len(record.trials):
        return (
            "Every trial was pruned, so there is no best one. Let the pruner wait longer, or let "
            "some trials complete first."
        )
    return "No trial was completed, so there is no best one."


def _no_finalists(record: SweepRecord) -> str | None:
    if record.finalists is not None or not record.ranked():
        return None
    return (
        "No finalist was trained again: the best value is that of a single training, and nothing "
        "here shows how much of it is selection bias."
    )


def _beyond_constraints(record: SweepRecord) -> str | None:
    complete = record.in_state("complete")
    if complete and not record.ranked():
        return f"None of the {len(complete)} completed trials keeps to the constraints."
    return None


def _seed_twice(record: SweepRecord) -> str | None:
    seed = (record.base_config.get("experiment") or {}).get("seed")
    if record.finalists is None or seed is None or seed not in record.finalists.seeds:
        return None
    return (
        f"The finalists were trained on seed {seed}, which was also the search's: their means and "
        "the estimate of optimism are not those of fresh seeds."
    )


def _looks(record: SweepRecord) -> str | None:
    """A look once the winner is named chooses nothing; one for another winner may have."""
    looks = record.test_looks
    winners = {look.trial for look in looks}
    if len(winners) < 2 and len({look.purpose for look in looks}) == len(looks):
        return None
    return (
        f"The test split was opened {len(looks)} times, again after its outcome could be known. "
        "Choosing between configurations by what was seen there makes its figures too good."
    )


def _workers(record: SweepRecord) -> str:
    return _count(record.workers, "worker")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _listed(names: list[str]) -> str:
    if len(names) > 6:
        return f"{', '.join(names[:5])} and {len(names) - 5} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
