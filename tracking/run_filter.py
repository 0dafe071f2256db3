"""What a user types to choose and order runs, in the words that MLflow searches by."""

from __future__ import annotations

import re

from tracking.names import metric_key

_QUOTED = re.compile(r"""('[^']*'|"[^"]*"|`[^`]*`)""")
_METRIC = re.compile(r"(?<![\w./@])([a-z]\w*/[\w@]+|[a-z]\w*@\d+)(?=\s*[<>=!])")
_SAMPLED = "sampled_"
_FALLBACKS = ("test", "trial", "val")
_SMALLER_IS_BETTER = ("loss", "seconds", "bytes", "parameters", "memory_mb")


def mlflow_filter(text: str) -> str:
    """A filter with our metric names as MLflow's: ``ndcg@10>=0.1`` asks for the test metric.

    ``val/ndcg@10`` and ``run/seconds`` name a group of their own. All else, and what stands in
    quotes, is MLflow's search syntax and stays as it is.
    """
    pieces = _QUOTED.split(text)
    pieces[::2] = [_METRIC.sub(_as_mlflow, piece) for piece in pieces[::2]]
    return "".join(pieces)


def metric_keys(metric: str) -> list[str]:
    """MLflow's keys of a metric, the one that says most first.

    A plain name such as ``ndcg@10`` is that of the test split, else a trial's best on validation,
    else the last epoch's on validation; ``run/seconds`` is that key alone.
    """
    if "/" in metric:
        return [metric_key(*metric.split("/", 1))]
    if metric.startswith(_SAMPLED):
        return [metric_key("test_sampled", metric.removeprefix(_SAMPLED))]
    return [metric_key(group, metric) for group in _FALLBACKS]


def order_by(sort: str, *, is_reversed: bool = False) -> list[str]:
    """MLflow's order, best or newest first; runs without the metric come last, newest first.

    Args:
        sort: "date", or a metric as for :func:`metric_keys`. Runs with a test value stand before
            those that only have one of validation: the two are not alike.
        is_reversed: worst or oldest first.
    """
    if sort == "date":
        return [f"attributes.start_time {'ASC' if is_reversed else 'DESC'}"]
    is_ascending = sort.endswith(_SMALLER_IS_BETTER) != is_reversed
    keys = [f"metrics.`{key}` {'ASC' if is_ascending else 'DESC'}" for key in metric_keys(sort)]
    return [*keys, "attributes.start_time DESC"]


def _as_mlflow(match: re.Match[str]) -> str:
    return f"metrics.`{metric_keys(match.group())[0]}`"
