"""Apprise child: the process in which one message is sent by apprise.

Reads a JSON object (``url``, ``title``, ``bodies`` by format, ``type``) from standard input, and
writes one line with a JSON object: ``told``; if not, ``why`` and ``retriable``. Nothing of the URL
is written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

__all__ = ["main", "withheld"]

SHORTEST = 3
"""Characters of a piece of a URL that is hidden; what is shorter is no secret."""
PARTS = re.compile(r"[^\w.%+-]+")


def withheld(said: str, url: str) -> str:
    """A text of apprise without any piece of the URL.

    Examples
    --------
    >>> withheld("sending to smtp.example with p4ss%21 failed", "mailto://me:p4ss%21@smtp.example")
    'sending to *** with *** failed'
    """
    rest, _, query = url.partition("://")[2].partition("?")
    values = [pair.partition("=")[2] for pair in query.split("&")]
    pieces = {p for part in (rest, *values) for p in PARTS.split(part) if len(p) >= SHORTEST}
    pieces |= {unquote(piece) for piece in pieces}
    for piece in sorted(pieces, key=len, reverse=True):
        said = said.replace(piece, "***")
    return said


def send(message: Mapping[str, Any]) -> dict[str, Any]:
    """Tell one service."""
    try:
        import apprise
    except ImportError:
        return _not("it is not installed (pip install 'redistill[alerts]')", retriable=False)
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.addHandler(heard)
    logger.propagate = False
    asset = apprise.AppriseAsset(
        app_id="redistill",
        app_desc="redistill",
        app_url="",
        image_url_mask="",  # pictures of apprise's makers, fetched from their server
        image_url_logo="",
        async_mode=False,
        http_redirects=False,  # they would carry tokens to strangers
        storage_mode="memory",
        secure_logging=True,
    )
    services = apprise.Apprise(asset=asset)
    if not services.add(message["url"]) or len(services) != 1:
        return _not("the URL is none of apprise's, or more than one", retriable=False)
    service: Any = services[0]
    form, body = _fitting(service, message["bodies"])
    # a body of plain text has no title in it; others do, and a title that is put in front of one
    # would be markup: only mails have a place of its own for it there
    title = message["title"] if form == "text" or _has_subject(form, service) else ""
    if "overflow=" not in message["url"]:
        service.overflow_mode = apprise.OverflowMode.TRUNCATE
    done = services.notify(
        body=body,
        title=title,
        body_format=apprise.NotifyFormat(form),
        notify_type=apprise.NotifyType(message["type"]),
        interpret_escapes=False,
    )
    if done:
        return {"told": True}
    last = heard.lines[-1] if heard.lines else "the service did not take it"
    return _not(withheld(last, message["url"]), retriable=True)


def _fitting(service: Any, bodies: Mapping[str, str]) -> tuple[str, str]:
    """The body in a service's own format: nothing is converted, so nothing loses its escapes."""
    formats = service.notify_format
    several = formats if isinstance(formats, tuple) else (formats,)
    own = [str(getattr(f, "value", f)) for f in several]
    form = next((f for f in own if f in bodies), "text")
    return form, bodies[form]


def _has_subject(form: str, service: Any) -> bool:
    return form == "html" and service.title_maxlen > 0


def _not(why: str, *, retriable: bool) -> dict[str, Any]:
    return {"told": False, "why": why, "retriable": retriable}


class _Heard(logging.Handler):
    """What apprise complains of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> int:
    """Status 0 in any case that is told in words."""
    said = send(json.load(sys.stdin))
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
