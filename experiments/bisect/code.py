"""The code of another commit, checked out beside the working directory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.environment import git_commit
from recsys.errors import ArtifactError
from recsys.reporting.past_run import PastRun

_DIRTY = "-dirty"
_MAIN = "experiments/__main__.py"
Checkout = Callable[[str | None], Path | None]
"""Gives the folder of a commit's code; None where that of this process has to do."""


def why_not_crossed(old: PastRun, new: PastRun) -> str:
    """Why the code of two runs cannot be a factor, in one sentence; empty where it can."""
    first, second = old.record.commit, new.record.commit
    if first == second and first is not None:
        rest = ", with changes that were not committed and may differ" * first.endswith(_DIRTY)
        return f"Code is no factor: both runs have commit {_short(first)}{rest}."
    for run, commit in ((old, first), (new, second)):
        if commit is None:
            return f"Code cannot be crossed: the commit of {run.name} is not known."
        if commit.endswith(_DIRTY):
            return (
                f"Code cannot be crossed: {run.name} was made by commit {_short(commit)} with "
                "changes that were not committed."
            )
        if not _is_here(commit):
            return (
                f"Code cannot be crossed: the repository here has no commit {_short(commit)} of "
                f"{run.name} that holds Bookends."
            )
    return ""


@contextmanager
def checkouts(folder: Path) -> Iterator[Checkout]:
    """Gives commits as folders of their own while the block lasts.

    Args:
        folder: where they are made.
    """
    made: dict[str, Path] = {}
    present = git_commit()

    def checkout(commit: str | None) -> Path | None:
        if commit is None or commit in (present, made) or not _is_here(commit):
            return made.get(commit or "")
        if commit not in made:
            path = folder.absolute() / commit[:12]
            _remove(path)  # what a killed process left
            _git("worktree", "add", "--detach", str(path), commit)
            made[commit] = path
        return made[commit]

    try:
        yield checkout
    finally:
        for path in made.values():
            _remove(path)


def git_place(checkout: Path) -> dict[str, str]:
    """The environment in which git speaks of a checkout, whatever the working directory."""
    found = _git("-C", str(checkout), "rev-parse", "--absolute-git-dir")
    return {"GIT_DIR": found, "GIT_WORK_TREE": str(checkout)}


def _is_here(commit: str) -> bool:
    """Whether the repository of the working directory has the commit, and Bookends in it."""
    try:
        _git("cat-file", "-e", f"{commit}:{_MAIN}")
    except ArtifactError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.exists():
        _git("worktree", "remove", "--force", str(path))


def _git(*words: str) -> str:
    """What git says.

    Raises:
        ArtifactError: git is not there, or refuses.
    """
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, timeout=120
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        raise ArtifactError(f"git {words[0]}: {said[-1] if said else error}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(f"git {words[0]}: {error}") from error
    return done.stdout.strip()


def _short(commit: str) -> str:
    return commit.removesuffix(_DIRTY)[:12]
