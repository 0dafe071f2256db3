"""How many of the faults that mutmut put into each module the tests noticed: a table in Markdown.

A mutant that runs out of time is noticed; one that no test reaches is not.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from mutmut.stats import status_by_exit_code

KILLED = {"killed", "timeout"}


def found(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Each module's dotted name, and what became of its mutants so far."""
    for path in sorted(directory.rglob("*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        tried = [status_by_exit_code[code] for code in codes if code is not None]
        if tried:
            module = path.relative_to(directory).as_posix().removesuffix(".py.meta")
            yield module.replace("/", "."), tried


def main() -> None:
    """Print a row a module of those named, or of all, and one for their sum."""
    names = tuple(sys.argv[1:])
    print("| module | mutants | killed | share |\n|---|---:|---:|---:|")
    total, killed = 0, 0
    for module, tried in found(Path("mutants")):
        if not names or any(f"{module}.".startswith(f"{name}.") for name in names):
            n = sum(status in KILLED for status in tried)
            total, killed = total + len(tried), killed + n
            print(f"| `{module}` | {len(tried)} | {n} | {n / len(tried):.1%} |")
    print(f"| all | {total} | {killed} | {killed / max(total, 1):.1%} |")


if __name__ == "__main__":
    main()
