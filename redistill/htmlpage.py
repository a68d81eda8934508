"""HTML page that asks nothing of anybody: no script, no link, no file beside it. Styles for light
and dark, tables, and the frame; foreign text is put on one line and escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from redistill.oneline import one_line

__all__ = ["document", "named", "row", "said", "table"]

LONGEST = 2_000
"""Characters of a sentence."""
LONGEST_NAME = 120

STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1d2429;--faint:#5b666e;
--rule:#d9dee1;
--line:#14647d;--band:#14647d2e;--base:#8a6d00;--bad:#b3261e;--good:#1d7a46;--usual:#aab6bd;
--now:#14647d}
@media (prefers-color-scheme:dark){:root{--paper:#14181b;--card:#1b2126;--ink:#e6eaec;
--faint:#9aa6ad;
--rule:#323b41;--line:#6cc4de;--band:#6cc4de38;--base:#d9b64a;--bad:#ff8a80;--good:#7bd6a0;
--usual:#566169;
--now:#6cc4de}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.25rem 0 .5rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem;overflow-wrap:anywhere}
p{margin:.35rem 0;overflow-wrap:anywhere}
.lead{font-size:1.15rem}
.faint,figcaption,svg text{color:var(--faint);fill:var(--faint)}
.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
figure{margin:.5rem 0;padding:.75rem;background:var(--card);border:1px solid var(--rule);
border-radius:.5rem}
figcaption{font-size:.85rem;margin-top:.35rem}
.wide{overflow-x:auto}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px}
.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--line);stroke-width:2}.band{fill:var(--band)}
.dot{fill:var(--line)}.base{stroke:var(--base);stroke-dasharray:6 4;stroke-width:1.5}
.mark{stroke:currentColor;stroke-width:1.5}
.harm{color:var(--bad)}.resolved{color:var(--good)}.note{color:var(--faint)}
.open,.m0{color:var(--line)}.m1{color:var(--base)}.m2{color:var(--faint)}
.harm circle,.resolved circle,.note circle,.open circle,.m0 circle,.m1 circle,.m2 circle
{fill:currentColor}
.usual{fill:var(--usual)}.now{fill:var(--now)}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em;
vertical-align:-.05em}
.key.usual{background:var(--usual);margin-left:0}.key.now{background:var(--now)}
.key.lines{background:var(--line);margin-left:0}.key.bases{background:var(--base)}
.key.harms{background:var(--bad)}.key.ends{background:var(--good)}
.key.notes{background:var(--faint)}
.key.m0{background:var(--line);margin-left:0}.key.m1{background:var(--base)}
.key.m2{background:var(--faint)}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .9rem .35rem 0;
border-bottom:1px solid var(--rule)}
td.text{min-width:14rem;overflow-wrap:anywhere}
td:first-child{white-space:nowrap}td.text:first-child{white-space:normal}
th{font-weight:600;color:var(--faint);white-space:nowrap}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.asked td{font-weight:600}
@media (max-width:40rem){th,td{padding-right:.6rem}td.text{min-width:9rem}svg text{font-size:20px}}
@media print{figure{break-inside:avoid}}
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page.

    Parameters
    ----------
    title
        Escaped already, as ``parts`` are: headings, paragraphs, charts, tables.
    """
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
            " style-src 'unsafe-inline'\">",
            f"<title>{title}</title><style>{STYLE}</style></head><body><main>",
            f"<h1>{title}</h1>",
            *parts,
            "</main></body></html>\n",
        ]
    )


def said(text: object, longest: int = LONGEST) -> str:
    """A foreign sentence for a page.

    Examples
    --------
    >>> said("<b>\\n&")
    '&lt;b&gt; &amp;'
    """
    return escape(one_line(str(text), longest))


def named(text: object) -> str:
    """A foreign name for a page."""
    return said(text, LONGEST_NAME)


def table(head: Sequence[str], rows: Sequence[str], numbers: Sequence[int] = ()) -> str:
    """A table of rows.

    Parameters
    ----------
    numbers
        Which columns hold numbers.
    """
    cells = "".join(
        f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if i in numbers else ""}>'
        f"{escape(h)}</th>"
        for i, h in enumerate(head)
    )
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(rows)}</table></div>'


def row(*cells: tuple[str, str], asked: bool = False) -> str:
    """A row of cells, each with its class; their texts are escaped already."""
    told = "".join(f'<td class="{style}">{text}</td>' for text, style in cells)
    return f'<tr class="asked">{told}</tr>' if asked else f"<tr>{told}</tr>"
