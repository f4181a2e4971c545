"""Secrets, and the one place that masks them in all that is printed, logged or kept.

Secrets are the passwords and query values of the addresses in the environment
(`MLFLOW_TRACKING_URI`, `KDBENCH_OPTUNA_STORAGE`, `DATABASE_URL`, a proxy), and variables that are
called a password, token or secret. They are masked wherever they occur, in every form in which
other projects write them. What has the form of an address with a password is masked in any case.
"""

import html
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

MASK = "***"

#: Variables whose whole value is a secret, and variables that hold an address.
SECRET_VARIABLE = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|SECRET_ACCESS_KEY|API_KEY)$")
ADDRESS_VARIABLE = re.compile(r"(URI|URL|STORAGE|DSN)$")

#: User and password before the last @ of an address, in characters of the class `{0}`. A number
#: and a slash after the colon are a port and a path, which may hold an @ as well. Not longer than
#: a token is, so that no text takes long to search.
USERINFO = r"(?:(?:(?![:/@?#]){0}){{0,100}}:(?!\d+[/?#]){0}{{0,400}}|(?:(?![:/@?#]){0}){{1,400}})@"
#: At the start of an address, and in a text, which goes on after an address.
AT_START = re.compile(USERINFO.format("."), re.DOTALL)
IN_TEXT = re.compile(
    r"((?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://)" + USERINFO.format(r"[^\s'\"<>]")
)
#: Parts of a query that are called a secret; the name of a saved view of MLflow is none.
IN_QUERY = re.compile(
    r"([?&](?!viewStateShareKey=)[\w.-]{0,40}(?:tok|secret|passw|pwd|key|auth|sig|cred)[\w.-]{0,40}=)[^&\s'\"#<>)]+",
    re.IGNORECASE,
)
#: Query keys of databases whose values are words that are no secret.
PLAIN_KEYS = {"sslmode", "connect_timeout", "charset", "mode", "timeout", "driver", "options"}

#: What a variable says that only switches something on or off.
SWITCHES = {"true", "false", "yes", "no", "on", "off"}

#: Shorter secrets are masked as whole words only, and single characters not at all.
WHOLE_WORD, SHORTEST = 6, 2

_remembered: set[str] = set()
_make_record = logging.getLogRecordFactory()


def mask(text: str) -> str:
    """`text` without secrets."""
    if pattern := _pattern(frozenset(_remembered), *_environment()):
        text = pattern.sub(MASK, text)
    text = IN_TEXT.sub(rf"\1{MASK}@", text)
    return IN_QUERY.sub(rf"\1{MASK}", text)


def remember(address: str) -> None:
    """Mask the secrets of an address that is not in the environment from now on."""
    if secrets_of(address):
        _remembered.add(address)


def safe_uri(address: str) -> str:
    """An address as it may be shown: without user, password and query."""
    scheme, who, where, query = pieces(address)
    if not (who or query):
        return address
    return f"{scheme}{'://' if scheme else ''}{MASK + '@' if who else ''}{where}"


def pieces(address: str) -> tuple[str, str, str, str]:
    """Scheme, user and password, host and path, query.

    A password with a slash, an @ or a question mark in it makes no proper address, but is a
    secret all the same; a file's path, on the other hand, may hold an @.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    who = ""
    found = None if scheme.startswith(("sqlite", "file")) else AT_START.match(rest)
    # Without a scheme, only a user with a password tells an address from a path.
    if found and (scheme or ":" in found[0]):
        who, rest = found[0][:-1], rest[found.end() :]
    where, _, query = rest.partition("?")
    return scheme, who, where, query


def secrets_of(address: str) -> set[str]:
    """The password and the query values of an address, and their parts where they make it no
    proper address, as a client takes the parts for a host or a path."""
    _, who, _, query = pieces(address)
    password = who.partition(":")[2]
    values = {value for key, value in parse_qsl(query) if key.lower() not in PLAIN_KEYS}
    parts = set(re.split(r"[@/?#:]", password)) if re.search(r"[@/?#:]", password) else set()
    return {secret for secret in (password, *parts, *values) if len(secret) >= SHORTEST}


def install() -> None:
    """Mask all that this process prints and logs from now on, warnings and tracebacks included."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, MaskedStream):
            setattr(sys, name, MaskedStream(stream))
    logging.setLogRecordFactory(_masked_record)


class MaskedStream:
    """A text stream that masks what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` without secrets."""
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines without secrets."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _masked_record(*arguments: Any, **more: Any) -> logging.LogRecord:
    """A log record without secrets, for handlers that write elsewhere than to the terminal."""
    record = _make_record(*arguments, **more)
    try:
        text = record.getMessage()
    except Exception:  # a wrong format, which the handler reports
        return record
    if (masked := mask(text)) != text:
        record.msg, record.args = masked, ()
    return record


def _environment() -> tuple[frozenset[str], frozenset[str]]:
    """The addresses in the environment, and the values that are secrets as a whole."""
    addresses = {
        value
        for name, value in os.environ.items()
        if "://" in value or ADDRESS_VARIABLE.search(name.upper())
    }
    whole = {
        value
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name.upper()) and value.lower() not in SWITCHES
    }
    return frozenset(addresses), frozenset(whole)


@cache
def _pattern(
    remembered: frozenset[str], addresses: frozenset[str], whole: frozenset[str]
) -> re.Pattern[str] | None:
    """What finds every secret in every form, in letters of any case: clients change it in
    hosts. None where there is none."""
    secrets = {value for value in whole if len(value) >= SHORTEST}
    for address in remembered | addresses:
        secrets |= secrets_of(address)
    forms = {form for secret in secrets for form in _forms(secret)}
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    alternatives = [
        re.escape(form) if len(form) >= WHOLE_WORD else rf"(?<!\w){re.escape(form)}(?!\w)"
        for form in ordered
    ]
    return re.compile("|".join(alternatives), re.IGNORECASE) if alternatives else None


def _forms(secret: str) -> set[str]:
    """A secret as it is written in addresses, JSON, Python and HTML."""
    forms = set()
    for plain in (secret, unquote(secret), unquote_plus(secret)):
        encoded = {quote(plain, safe=safe) for safe in ("", "/", " +")} | {quote_plus(plain)}
        written = {json.dumps(plain)[1:-1], repr(plain)[1:-1], html.escape(plain)}
        forms |= {plain, *encoded, *written}
    return {form for form in forms if len(form) >= SHORTEST}
