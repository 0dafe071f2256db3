"""What a registered model and its versions say of themselves on MLflow's pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
DETAILS_TAG = "bookends.details"
_HEADING = "### Champions"
_SHOWN_MOVES = 15
_GROUPS = ("test", "popularity", "item_knn", "ease", "ials", "bpr")
_LONGEST_REASON = 500
_WAYS = {"gate": "through the gate", "force": "by force", "rollback": "rolled back"}


def version_tags(
    record: RunRecord,
    verdict: Verdict,
    ids: Mapping[str, str],
    *,
    against: int | None,
    reason: str | None,
) -> dict[str, str]:
    """What a version's page shows: where it comes from, how good it is, what the gate said and why.

    All else, criterion by criterion, is one tag in JSON (:data:`DETAILS_TAG`), for programs.

    Args:
        record: of its run.
        verdict: of the gate.
        ids: more for the details.
        against: version of the champion it was held against.
        reason: why it was forced; None where it was not.
    """
    is_forced = reason is not None and not verdict.passed
    metrics = payload.evaluation_metrics(record)
    tags = {
        "bookends.gate": "forced" if is_forced else "passed" if verdict.passed else "failed",
        "bookends.reason": _cut(reason if is_forced and reason else _because(verdict, against)),
        "bookends.run_name": record.run_name,
        "bookends.dataset": str(record.dataset.get("fingerprint", "")),
    }
    if verdict.passed or reason is not None:
        tags["bookends.previous_champion"] = "none" if against is None else str(against)
    headline = payload.monitored_metric(record)
    tags |= {
        f"bookends.{key}": f"{metrics[key]:.6g}"
        for key in (metric_key(group, headline) for group in _GROUPS)
        if key in metrics
    }
    details = dict(ids) | {
        "held_against": against,
        "forced": is_forced,
        "force_reason": None if reason is None else _cut(reason),
        "criteria": {
            row.key: {"passed": row.passed, "required": row.required, "found": row.found}
            for row in verdict.criteria
        },
    }
    return tags | {DETAILS_TAG: json.dumps(details, ensure_ascii=False)}


def details_in(tags: Mapping[str, str]) -> dict[str, Any]:
    """What a version's tag of details says; empty where it has none that can be read."""
    try:
        details = json.loads(tags.get(DETAILS_TAG, "{}"))
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _because(verdict: Verdict, against: int | None) -> str:
    opponent = _opponent(against)
    if verdict.passed:
        return f"all criteria hold against {opponent}"
    failed = "; ".join(f"{row.name} ({row.found})" for row in verdict.failed)
    return f"against {opponent}: failed {failed}"


def _opponent(against: int | None) -> str:
    return "the popularity baseline" if against is None else f"version {against}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 4] + " ..."


def version_description(
    record: RunRecord, verdict: Verdict, against: int | None, reason: str | None
) -> str:
    """Markdown: the gate's word, its table, and what the run says of itself."""
    opponent = _opponent(against)
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
