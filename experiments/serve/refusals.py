"""What is said where a question is refused: a status, and one line."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recsys.errors import BookendsError

TOKEN_LINE = "the header 'Authorization: Bearer TOKEN' must carry the token of this server"
MISTAKE_LINE = "the server made a mistake; its log says which"
REFUSED = (BookendsError, RequestValidationError, HTTPException)
"""What is the fault of a question, or of the moment; all else is the server's mistake."""
_LONGEST = 500


def describe(error: Exception) -> tuple[int, str]:
    """Status of HTTP and line for one of :data:`REFUSED`."""
    match error:
        case RequestValidationError():
            status, line = _invalid(error)
        case HTTPException():
            status, line = error.status_code, str(error.detail)
        case _:
            status, line = 422, str(error)
    return status, _one_line(line)


def _one_line(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()  # JSON may hold half a character
    line = " ".join(whole.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _invalid(error: RequestValidationError) -> tuple[int, str]:
    """What the schema has against a question: the first thing, without the question."""
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return 400, f"the body must be JSON ({first.get('ctx', {}).get('error', first['msg'])})"
    more = f" (and {len(others)} more)" if others else ""
    return 422, f"{place}: {first['msg']}{more}"
