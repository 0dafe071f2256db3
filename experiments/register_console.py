"""What the user sees of a registration."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.register import Registration
from recsys.evaluation.gate import Verdict


def show(registration: Registration, name: str, console: Console | None = None) -> None:
    """Print the criteria, and what came of them."""
    console = console or Console()
    if registration.verdict is not None:
        against = registration.champion
        opponent = "popularity" if against is None else f"version {against.number}"
        console.print(_table(registration.verdict, f"{registration.run.name} against {opponent}"))
    for text in _outcome(registration, name):
        console.print(escape(text), highlight=False, soft_wrap=True)


def _table(verdict: Verdict, title: str) -> Table:
    shown = Table(title=escape(title), title_justify="left")
    for column in verdict.table.columns:
        shown.add_column(column, overflow="fold")
    for row in verdict.criteria:
        result = "[green]passed[/green]" if row.passed else "[red]failed[/red]"
        shown.add_row(escape(row.name), escape(row.required), escape(row.found), result)
    return shown


def _outcome(registration: Registration, name: str) -> list[str]:
    verdict, done = registration.verdict, registration.done
    failed = [] if verdict is None else [row.name for row in verdict.failed]
    by_force = f" by force, though it failed: {'; '.join(failed)}" if failed else ""
    if done is None:
        if registration.is_champion:
            would, because = "would be", by_force
        else:
            would, because = "would not be", f": failed {'; '.join(failed)}"
        return [f"nothing was written; the run {would} champion of {name}{because}"]
    if not done.has_moved and registration.is_champion:
        return [f"version {done.version} of {name} is champion already; nothing changed"]
    state = "registered" if done.is_new else "looked at again"
    lines = [f"version {done.version} of {name} {state}"]
    if done.has_moved:
        lines.append(f"champion is version {done.version} now{by_force}")
        lines.append(f"models:/{name}@champion")
    else:
        stays = "nobody" if done.champion is None else f"version {done.champion}"
        lines.append(f"champion stays {stays}; failed: {'; '.join(failed)}")
    return lines
