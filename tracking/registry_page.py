"""What a registered model and its versions say of themselves on MLflow's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from recsys.evaluation.gate import Verdict
from recsys.evaluation.tables import Table
from recsys.reporting.document import TableView
from recsys.reporting.formatting import moment
from recsys.reporting.markdown import escape, table_markdown
from recsys.reporting.record import RunRecord
from tracking import payload
from tracking.champions import Move
from tracking.names import metric_key

LONGEST_DESCRIPTION = 5000  # the width of the registry's column
GATE_PREFIX = "bookends.gate."
_HEADING = "### Champions"
_SHOWN_MOVES = 15
_GROUPS, _METRICS = ("test", "popularity"), ("ndcg@10", "recall@10", "coverage@10")
_WAYS = {"gate": "through the gate", "force": "by force", "rollback": "rolled back"}


def version_tags(
    record: RunRecord,
    verdict: Verdict,
    ids: Mapping[str, str],
    *,
    against: int | None,
    reason: str | None,
) -> dict[str, str]:
    """Where a version comes from, how good it is, and what the gate said, criterion by criterion.

    Args:
        record: of its run.
        verdict: of the gate.
        ids: more tags under ``bookends.``.
        against: version of the champion it was held against.
        reason: why it was forced; None where it was not.
    """
    metrics = payload.evaluation_metrics(record)
    tags = {
        "bookends.gate": "passed" if verdict.passed else "failed",
        "bookends.held_against": "popularity" if against is None else f"version {against}",
        "bookends.run_name": record.run_name,
        "bookends.dataset": str(record.dataset.get("fingerprint", "")),
    }
    tags |= {f"bookends.{name}": value for name, value in ids.items()}
    if verdict.passed or reason is not None:
        tags["bookends.previous_champion"] = "none" if against is None else str(against)
    tags |= {
        f"bookends.{key}": f"{metrics[key]:.6g}"
        for key in (metric_key(group, name) for group, name in product(_GROUPS, _METRICS))
        if key in metrics
    }
    for row in verdict.criteria:
        result = "passed" if row.passed else "failed"
        tags[GATE_PREFIX + row.key] = f"{result}: {row.found} (must hold: {row.required})"
    if reason is not None:
        tags["bookends.forced"] = "false" if verdict.passed else "true"
        tags["bookends.reason"] = reason
    return tags


def version_description(
    record: RunRecord, verdict: Verdict, against: int | None, reason: str | None
) -> str:
    """Markdown: the gate's word, its table, and what the run says of itself."""
    opponent = "the popularity baseline" if against is None else f"version {against}"
    said = "Passed" if verdict.passed else "Did not pass"
    failed = ", ".join(row.name for row in verdict.failed)
    parts = [f"{said} the gate against {opponent}{': failed ' + failed if failed else ''}."]
    if reason is not None:
        parts.append(f"Made champion at a user's wish: {escape(reason)}")
    parts.append(table_markdown(TableView(verdict.table)))
    parts.append(payload.description(record))
    while len("\n\n".join(parts)) > LONGEST_DESCRIPTION:
        parts.pop()
    return "\n\n".join(parts)


def model_description(name: str, moves: Sequence[Move], present: str) -> str:
    """Markdown: how to load the champion, and who was champion when.

    Args:
        name: of the registered model.
        moves: of the alias, first to last.
        present: the description that stands; what a user wrote above our heading is kept.
    """
    head = present.partition(_HEADING)[0].strip() or (
        "Two-tower book recommenders. The version that the alias `champion` points to is the one "
        f"to serve: `models:/{name}@champion`. The alias moves when a run passes the gate of "
        "`bookends register`, and back by `bookends rollback`."
    )
    rows = [
        (moment(move.at), f"version {move.version}", _WAYS[move.way], move.by, move.reason or None)
        for move in reversed(moves)
    ]
    columns = ("since", "champion", "how", "by", "reason")
    table = Table("champions", "Champions", "", columns, tuple(rows))
    parts = [head, _HEADING, table_markdown(TableView(table, _SHOWN_MOVES))]
    text = "\n\n".join(parts[: 3 if rows else 1])
    return text if len(text) <= LONGEST_DESCRIPTION else head[:LONGEST_DESCRIPTION]
