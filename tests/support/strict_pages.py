"""Reader of an HTML page that is strict: what a page that asks nothing of anybody may not have."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br"}
CLOSED_HERE = {"circle", "line", "rect", "polyline", "polygon"}
FOREIGN = {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base", "video"}
ATTRIBUTES = {"src", "href", "srcset", "action", "data", "style", "formaction", "ping"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; a tag that is not closed raises."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED_HERE, f"<{tag}/> is none of HTML"
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data


def want_strict(text: str) -> Page:
    """The page, if it loads nothing, links to nothing and runs nothing."""
    page = Page(text)
    assert not FOREIGN & set(page.tags)
    assert not ATTRIBUTES & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for word in ("url(", "@import", "http://", "https://", "javascript:"):
        assert word not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text
    return page
