"""Alerts as people are told them."""

from __future__ import annotations

from typing import Any

from redistill.workers.alerts.alert import Alert

EVIL = "<!channel> @everyone `rm` **x** [a](http://evil.example) <script>&lt;\"'\r\n# no\u202e|~_"
"""What a feature, a category or a feed may be named."""


def told(**changes: Any) -> Alert:
    """A firing page about harm, with everything in it."""
    fields: dict[str, Any] = {
        "key": "incident:3f2a81c0-0000-4000-8000-000000000000",
        "kind": "incident",
        "state": "firing",
        "severity": "page",
        "alert_class": "harm",
        "model": "credit",
        "version": "r38",
        "title": "credit r38: error 4.4% → 18.7%",
        "how_bad": "error 18.7% [15.3, 22.4], measured on 492 labels; normal 4.4%",
        "where": "region=EU; income shifted up, PSI 1.42",
        "done": "a repair waits for 35 more labels",
        "commands": ("redistill incidents show 3f2a81c0", "redistill rollback credit"),
        "url": "https://redistill.example/incidents/3f2a81c0",
        "opened_at": 1_700_000_000_000_000,
        "began": "between 21:58 and 22:04 UTC",
    }
    return Alert(**(fields | changes))
