"""What a registered model and its versions say of themselves on MLflow's pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from recsys.baselines.names import baseline_label
from recsys.config import BaselineName
from recsys.evaluation.gate import Verdict
from recsys.evaluation.tables import Table
from recsys.reporting.document import TableView
from recsys.reporting.formatting import moment
from recsys.reporting.markdown import escape, table_markdown
from recsys.reporting.record import RunRecord
from recsys.reporting.results import monitor_of
from tracking import payload
from tracking.champions import Move
from tracking.names import metric_key
from tracking.run_page import description

LONGEST_DESCRIPTION = 5000  # the width of the registry's column
DETAILS_TAG = "bookends.details"
_HEADING = "### Champions"
_SHOWN_MOVES = 15
_GROUPS = ("test", *get_args(BaselineName))
_LONGEST_REASON = 500
_WAYS = {"gate": "through the gate", "force": "by force", "rollback": "rolled back"}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A run that is to be registered.

    Attributes:
        against: version of the champion it was held against; None where there was none.
        reason: why it is to be champion whatever the gate says; None leaves it to the gate.
        drift: how its data differ from the champion's, in words; "" where they are the same.
    """

    run_id: str
    record: RunRecord
    verdict: Verdict
    against: int | None
    reason: str | None = None
    drift: str = ""

    @property
    def is_promoted(self) -> bool:
        """Whether it is to be champion."""
        return self.verdict.passed or self.reason is not None

    @property
    def opponent(self) -> str:
        """What it was held against, in words."""
        if self.against is not None:
            return f"version {self.against}"
        better = [row.name for row in self.verdict.criteria if row.key == "better"]
        name = better[0].removeprefix("better than ") if better else "popularity"
        return f"the {baseline_label(name)} baseline"


def version_tags(candidate: Candidate, model_id: str) -> dict[str, str]:
    """What a version's page shows: where it comes from, how good it is, what the gate said and why.

    All else, criterion by criterion, is one tag in JSON (:data:`DETAILS_TAG`), for programs.
    """
    verdict, record, reason = candidate.verdict, candidate.record, candidate.reason
    is_forced = reason is not None and not verdict.passed
    failed = "; ".join(f"{row.name} ({row.found})" for row in verdict.failed)
    because = f"all criteria hold against {candidate.opponent}"
    if not verdict.passed:
        because = reason or f"against {candidate.opponent}: failed {failed}"
    tags = {
        "bookends.gate": "forced" if is_forced else "passed" if verdict.passed else "failed",
        "bookends.reason": _cut(because),
        "bookends.run_name": record.run_name,
        "bookends.dataset": str(record.dataset.get("fingerprint", "")),
    }
    if candidate.drift:
        tags["bookends.drift"] = _cut(candidate.drift)
    if candidate.is_promoted:
        tags["bookends.previous_champion"] = str(candidate.against or "none")
    metrics = payload.evaluation_metrics(record)
    headline = monitor_of(record)
    tags |= {
        f"bookends.{key}": f"{metrics[key]:.6g}"
        for key in (metric_key(group, headline) for group in _GROUPS)
        if key in metrics
    }
    details = {
        "run_id": candidate.run_id,
        "model_id": model_id,
        "held_against": candidate.against,
        "forced": is_forced,
        "force_reason": None if reason is None else _cut(reason),
        "criteria": {
            row.key: {"passed": row.passed, "required": row.required, "found": row.found}
            for row in verdict.criteria
        },
    }
    return tags | {DETAILS_TAG: json.dumps(details, ensure_ascii=False, allow_nan=False)}


def details_in(tags: Mapping[str, str]) -> dict[str, Any]:
    """What a version's tag of details says; empty where it has none that can be read."""
    try:
        details = json.loads(tags.get(DETAILS_TAG, "{}"))
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 4] + " ..."


def version_description(candidate: Candidate) -> str:
    """Markdown: the gate's word, its table, and what the run says of itself."""
    verdict = candidate.verdict
    said = f"Passed the gate against {candidate.opponent}."
    if not verdict.passed:
        failed = ", ".join(row.name for row in verdict.failed)
        said = f"Did not pass the gate against {candidate.opponent}: failed {failed}."
    parts = [said]
    if candidate.drift:
        parts.append(f"Since the data of {candidate.opponent}: {candidate.drift}.")
    if candidate.reason is not None:
        parts.append(f"Made champion at a user's wish: {escape(candidate.reason)}")
    parts.append(table_markdown(TableView(verdict.table)))
    parts.append(description(candidate.record))
    while len("\n\n".join(parts)) > LONGEST_DESCRIPTION:
        parts.pop()
    return "\n\n".join(parts)


def model_description(name: str, moves: Sequence[Move], present: str) -> str:
    """Markdown: how to load the champion, and who was champion when.

    What a user wrote above our heading in the ``present`` description is kept.
    """
    head = present.partition(_HEADING)[0].strip() or (
        "Two-tower recommenders. The version that the alias `champion` points to is the one "
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
