"""What a comparison comes to, in plain words."""

from __future__ import annotations

import math

from recsys.config import AMONG_NEW
from recsys.evaluation.run_comparison import Difference, PairedRun
from recsys.reporting.comparison import RunComparison
from recsys.reporting.document import Callout, KeyFigure
from recsys.reporting.formatting import chance, metric_label, number, points
from recsys.reporting.results import monitor_of

_SIZES = ((0.2, "very small"), (0.5, "small"), (0.8, "medium"))
"""Cohen's (1988) bounds of the size of an effect."""


def verdict(comparison: RunComparison, pair: PairedRun) -> str:
    """Whether a run is better than the reference, by how much, and how far to believe it."""
    found = pair.headline
    sentences = [outcome(comparison, pair)]
    if found.comparison.n and found.verdict != "alike":
        sentences.append(_amount(found, comparison))
        if found.verdict == "undecided":
            sentences.append(_within(found))
        sentences.append(_users(found))
    sentences += [_other_metrics(pair), _segments(pair)]
    return " ".join(sentence for sentence in sentences if sentence)


def outcome(comparison: RunComparison, pair: PairedRun) -> str:
    """Whether a run is better than the reference, in one sentence."""
    first, second = pair.name, comparison.reference.name
    label = metric_label(pair.headline.metric)
    match pair.headline.verdict:
        case "better" | "worse" as word:
            return f"{first} is {word} than {second} on {label}."
        case "alike":
            return f"{first} and {second} give every user the same {label}."
        case "no users":
            return f"No user has a {label} under both {first} and {second}."
        case "undecided" | "not tested":
            return f"{first} and {second} cannot be told apart on {label}."


def notices(comparison: RunComparison) -> tuple[Callout, ...]:
    """What must be known before the numbers."""
    method = comparison.method
    found = [
        Callout(
            "Each run is one training with one seed. What is said here is about these trained "
            "models and the users they were judged by; another seed may move either run."
        )
    ]
    monitor = monitor_of(comparison.reference.record)
    gave_lists = [run.name for run in comparison.others if run.paired is not None]
    if gave_lists and monitor.startswith(AMONG_NEW) and not method.headline.startswith(AMONG_NEW):
        found.append(
            Callout(
                f"{comparison.reference.name} was trained by {metric_label(monitor)}, but the "
                f"lists of {' and '.join(gave_lists)} are of the whole catalogue. Among all items "
                f"{metric_label(method.headline)} rises with whatever puts new items high.",
                "warning",
            )
        )
    for run in comparison.others:
        if run.paired is not None:
            said = f"{run.name} was judged on the test of {comparison.reference.name}: "
            said += run.paired.said
            if run.paired.n_left_out:
                said += (
                    f"; {run.paired.n_left_out:,} users are left out, since it was trained on a "
                    "test item of theirs"
                )
            found.append(Callout(f"{said}."))
    unfinished = [run.name for run in comparison.runs if run.record.status != "finished"]
    if unfinished:
        found.append(Callout(f"Not finished: {', '.join(unfinished)}.", "warning"))
    if not comparison.pairs[0].shown and len(method.tested) == 1:
        found.append(Callout("The runs have one metric in common.", "warning"))
    return tuple(found)


def key_figures(comparison: RunComparison) -> tuple[KeyFigure, ...]:
    """The deciding metric of each run, and its difference to the reference."""
    metric = comparison.method.headline
    label = metric_label(metric)
    first = comparison.pairs[0].headline.comparison
    figures = [
        KeyFigure("Test users", f"{comparison.n_users:,}", "the same of every run"),
        KeyFigure(comparison.reference.name, number(first.second), f"{label}, the reference"),
    ]
    for pair in comparison.pairs:
        found = pair.headline
        figures.append(KeyFigure(pair.name, number(found.comparison.first), label))
        low, high = found.interval_points
        between = f"{points(low)} to {points(high)}"
        figures.append(
            KeyFigure(f"Difference, points: {found.verdict}", points(found.points), between)
        )
    return tuple(figures)


def _amount(found: Difference, comparison: RunComparison) -> str:
    compared = found.comparison
    low, high = found.interval_points
    share = ""
    if compared.second:
        share = f", {points(100 * compared.difference / compared.second, 1)}%"
    return (
        f"The difference is {points(found.points)} points{share}: {100 * compared.first:.2f} "
        f"against {100 * compared.second:.2f} ({found.confidence:.0%} interval {points(low)} to "
        f"{points(high)}; {chance(found.p_corrected)} after Holm's correction for "
        f"{comparison.n_tests} {'test' if comparison.n_tests == 1 else 'tests'})."
    )


def _within(found: Difference) -> str:
    low, high = found.interval_points
    return (
        f"It may be chance; the data speak against a difference beyond {points(low)} or "
        f"{points(high)} points."
    )


def _users(found: Difference) -> str:
    n, better, worse = found.comparison.n, found.comparison.n_better, found.comparison.n_worse
    text = (
        f"Of {n:,} users {better:,} are served better, {worse:,} worse and "
        f"{n - better - worse:,} alike"
    )
    effect = found.comparison.effect_size
    if math.isnan(effect):
        return text + "."
    size = next((name for bound, name in _SIZES if abs(effect) < bound), "large")
    return f"{text}; d_z = {points(effect)}, {size} beside how much users differ."


def _other_metrics(pair: PairedRun) -> str:
    parts = []
    for word in ("better", "worse"):
        labels = [metric_label(found.metric) for found in pair.tested[1:] if found.verdict == word]
        if labels:
            parts.append(f"{word} on {', '.join(labels)}")
    if not parts:
        return "" if len(pair.tested) == 1 else "No other tested metric shows a difference."
    return f"Of the other tested metrics it is {' and '.join(parts)}."


def _segments(pair: PairedRun) -> str:
    moved = [found for found in pair.segments if found.verdict in ("better", "worse")]
    if not pair.segments:
        return ""
    if not moved:
        return "In no segment alone is there a difference beyond chance."
    parts = [f"{found.segment} {points(found.points)} points" for found in moved]
    return f"Segments with a difference beyond chance: {', '.join(parts)}."
