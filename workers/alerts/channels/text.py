"""Text of an alert: what a person reads, in plain text, Markdown and HTML.

Names of features, categories and feeds come from outside and may hold anything: each rendering
escapes all fields, nothing in them becomes a link, a mention or a line of its own.
"""

from __future__ import annotations

import html as markup
import re
import unicodedata
from dataclasses import dataclass

from redistill.times import utc
from redistill.workers.alerts.alert import Alert

__all__ = ["clean", "html", "iso", "markdown", "plain", "title"]

MOST_CHARACTERS = 2_000
"""Of a field: a message that nobody reads to its end may as well end."""
MOST_MEMBERS = 20
MARKDOWN = re.compile(r"([\\`*_\[\]<>~|&#])")
APART = "\u200b"
"""Stands where two characters must not be read as one sign."""


@dataclass(frozen=True)
class Part:
    """A named paragraph: text, or lines."""

    name: str
    text: str = ""
    lines: tuple[str, ...] = ()
    typed: bool = False
    """Lines are commands."""


def iso(us: int) -> str:
    """A time for machines.

    Examples
    --------
    >>> iso(1_700_000_000_123_456)
    '2023-11-14T22:13:20.123456Z'
    """
    return utc(us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clean(text: str, most: int = MOST_CHARACTERS) -> str:
    """A field as one line of visible characters, cut where it is too long.

    Examples
    --------
    >>> clean("in\\ncome \\u202egnp")
    'in come  gnp'
    """
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def title(alert: Alert) -> str:
    """One line: how urgent or in which state, and what is wrong.

    Examples
    --------
    >>> title(Alert(key="incident:1", kind="incident", state="firing", severity="page",
    ...             alert_class="harm", model="credit", version="r38", opened_at=0,
    ...             title="credit r38: error 4.4% → 18.7%"))
    '[page] credit r38: error 4.4% → 18.7%'
    """
    mark: str = alert.severity if alert.state == "firing" else alert.state
    if alert.kind in ("change", "test", "heartbeat"):
        mark = alert.kind
    return f"[{mark}] {clean(alert.title, 300)}"


def _when(us: int) -> str:
    return f"{utc(us):%Y-%m-%d %H:%M:%S} UTC"


def _parts(alert: Alert) -> list[Part]:
    """What there is to say, in the order in which it is needed."""
    found = _when(alert.opened_at)
    more = len(alert.members) - MOST_MEMBERS
    members = tuple(clean(line, 300) for line in alert.members[:MOST_MEMBERS])
    said = [
        Part("How bad", clean(alert.how_bad)),
        Part("Since", f"{clean(alert.began)}, found {found}" if alert.began else found),
        Part("Resolved", _when(alert.resolved_at) if alert.resolved_at is not None else ""),
        Part("Where", clean(alert.where)),
        Part("Done", clean(alert.done)),
        Part("Alerts", lines=members + ((f"and {more} more",) if more > 0 else ())),
        Part("Type", lines=tuple(map(clean, alert.commands)), typed=True),
    ]
    return [part for part in said if part.text or part.lines]


def plain(alert: Alert) -> str:
    """As plain text; the first line is the title."""
    out = [_apart(title(alert)), ""]
    for part in _parts(alert):
        if part.lines:
            out += [f"{part.name}:", *(f"  {x if part.typed else _apart(x)}" for x in part.lines)]
        else:
            out.append(f"{part.name}: {_apart(part.text)}")
    return "\n".join([*out, *([alert.url] if alert.url else [])])


def markdown(alert: Alert) -> str:
    """As Markdown (CommonMark), title first."""
    out = [f"**{_marked(title(alert))}**"]
    for part in _parts(alert):
        if part.typed:
            runs = re.findall("`+", "".join(part.lines))
            fence = "`" * max(3, *(len(r) + 1 for r in runs), 3)
            out.append("\n".join([f"**{part.name}**", fence, *part.lines, fence]))
        elif part.lines:
            out.append("\n".join([f"**{part.name}**", *(f"- {_marked(x)}" for x in part.lines)]))
        else:
            out.append(f"**{part.name}:** {_marked(part.text)}")
    if alert.url:
        out.append(f"<{alert.url}>")
    return "\n\n".join(out)


def html(alert: Alert) -> str:
    """As HTML without styles, scripts or images, title first."""
    out = [f"<h3>{_escaped(title(alert))}</h3>"]
    for part in _parts(alert):
        if part.typed:
            lines = markup.escape("\n".join(part.lines))
            out.append(f"<p><b>{part.name}</b></p><pre>{lines}</pre>")
        elif part.lines:
            lines = "".join(f"<li>{_escaped(line)}</li>" for line in part.lines)
            out.append(f"<p><b>{part.name}</b></p><ul>{lines}</ul>")
        else:
            out.append(f"<p><b>{part.name}:</b> {_escaped(part.text)}</p>")
    if alert.url:
        target = markup.escape(alert.url, quote=True)
        out.append(f'<p><a href="{target}">{target}</a></p>')
    return "\n".join(out)


def _apart(text: str) -> str:
    """Mentions and links of foreign text are words: nobody is called, nothing can be clicked."""
    return text.replace("@", "@" + APART).replace("://", ":" + APART + "//")


def _marked(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", _apart(text))


def _escaped(text: str) -> str:
    return markup.escape(_apart(text))
