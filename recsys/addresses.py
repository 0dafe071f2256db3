"""Addresses of stores and databases, as they may be kept and shown: without their password."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

INPUT_SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
"""Of stores that inputs can lie in."""

_ADDRESS = re.compile(r"[\w+.\-]+://\S+")
_WEB = re.compile(r"https?$")
_FILES = ("sqlite", "journal", "file")
_HOST = re.compile(r"[^:@/?#]*(:\d*)?")
_SECRET = re.compile(r"passw|pwd|token|secret", re.IGNORECASE)
_OPTION = re.compile(rf"([?&][^=&\s]*(?:{_SECRET.pattern})[^=&\s]*=)[^&\s]+", re.IGNORECASE)
_USER_ALONE = re.compile(r"[^/?#]+://[^/:@?#]+@")


def without_password(address: str) -> str:
    """The address without the password behind its user's name and those among its options.

    Text that is no address stays as it is.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    login = _login(scheme, rest)
    if login:
        rest = rest[len(login) + 1 :]
        user = login.partition(":")[0]
        if not _WEB.search(scheme):  # a web address may have a token in place of a user's name
            rest = f"{user.partition('/')[0]}@{rest}"
    head, question, query = rest.partition("?")
    kept = [option for option in query.split("&") if option and not _SECRET.search(option)]
    return scheme + mark + head + (question + "&".join(kept) if kept else "")


def scheme_of(address: str) -> str:
    """What an address begins with, without the driver; empty for what is no address."""
    scheme, mark, _ = address.partition("://")
    return scheme.partition("+")[0].lower() if mark else ""


def copy_path(address: str, cache_dir: Path) -> Path:
    """Where the copy of an input at an address lies, so that messages tell which one it is of."""
    scheme, _, rest = address.partition("://")
    place, _, options = rest.partition("?")
    folder = cache_dir / "inputs" / scheme
    return (folder / quote(options, safe="=&.") if options else folder) / place


def is_ambiguous(address: str) -> bool:
    """Whether a part of the password would be taken for the host, and shown in errors."""
    scheme, _, rest = address.partition("://")
    user, _, password = _login(scheme, rest).partition(":")
    stops = "/?#@" if _WEB.search(scheme) else "@"
    return "/" in user or any(mark in password for mark in stops)


def hide_passwords(text: str) -> str:
    """The text with every address in it as :func:`without_password` gives it.

    Secrets among the options of an address without its host, as drivers show one, are left out too.
    """
    return _OPTION.sub(r"\1...", _ADDRESS.sub(lambda found: without_password(found[0]), text))


def lacks_password(address: str) -> bool:
    """Whether the address names a user and no password."""
    return _USER_ALONE.match(address) is not None


def _login(scheme: str, rest: str) -> str:
    """What stands before the host: all up to the last ``@``, though a password must hold none.

    A web address with a plain host may have an ``@`` in its query or fragment, and a database's
    name may hold one.
    """
    if scheme.partition("+")[0] in _FILES:
        return ""
    if _WEB.search(scheme):
        is_plain = _HOST.fullmatch(re.split(r"[/?#]", rest, maxsplit=1)[0])
        return (re.split(r"[?#]", rest, maxsplit=1)[0] if is_plain else rest).rpartition("@")[0]
    login = rest.rpartition("@")[0]
    return "" if "/" in login and ":" not in login else login
