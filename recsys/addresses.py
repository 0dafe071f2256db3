"""Addresses of stores and databases, as they may be kept and shown: without their password."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"[\w+.\-]+://\S+")
_WEB = re.compile(r"https?$")
_PORT = re.compile(r"\d*")
_SECRET = re.compile(r"passw|pwd|token|secret", re.IGNORECASE)
_USER_ALONE = re.compile(r"[^/?#]+://[^/:@?#]+@")


def without_password(address: str) -> str:
    """The address without the password behind its user's name and those among its options.

    Text that is no address stays as it is.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    rest = _without_login(rest, is_web=_WEB.search(scheme) is not None)
    head, question, query = rest.partition("?")
    kept = [option for option in query.split("&") if option and not _SECRET.search(option)]
    return scheme + mark + head + (question + "&".join(kept) if kept else "")


def hide_passwords(text: str) -> str:
    """The text with every address in it as :func:`without_password` gives it."""
    return _ADDRESS.sub(lambda found: without_password(found[0]), text)


def lacks_password(address: str) -> bool:
    """Whether the address names a user and no password."""
    return _USER_ALONE.match(address) is not None


def _without_login(rest: str, *, is_web: bool) -> str:
    """What follows the scheme, without the password.

    A database's password may hold a slash, and one that holds an ``@`` is a mistake that is not to
    be shown either, so that all up to the last ``@`` is taken for it. A web address may have an
    ``@`` in its path.
    """
    user, colon, after = rest.partition(":")
    if not colon or "/" in user or "@" in user or "@" not in after:
        return rest
    place = re.split(r"[/?#]", after, maxsplit=1)[0]
    if is_web and "@" in place:
        return user + after[place.rindex("@") :]
    if is_web and _PORT.fullmatch(place):
        return rest
    return user + after[after.rindex("@") :]
