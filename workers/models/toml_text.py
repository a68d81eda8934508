"""TOML text of a ``model.toml`` that a command writes: names, lists of them, features."""

from __future__ import annotations

import json
from collections.abc import Sequence

from redistill.streams.wire.block import Feature
from redistill.workers.models.spec_schema import expand

__all__ = ["comment", "feature", "key", "names", "text"]


def text(value: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(told: str) -> str:
    """Words of a comment: what cannot be printed, such as the end of a line, is escaped.

    Examples
    --------
    >>> print(comment('"logits"\\nx = 1'))
    "logits"\\nx = 1
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in told)


def key(name: str) -> str:
    bare = name and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
    return name if bare else text(name)


def feature(described: Feature) -> str:
    """A feature as short as it can be written; its name is told where the key would be syntax."""
    short = names(described.values) if described.kind == "category" else text(described.kind)
    if expand(described.name) == [described.name]:
        return short
    key = "values" if described.kind == "category" else "type"
    return f"{{ name = {text(described.name)}, {key} = {short} }}"


def names(values: Sequence[str]) -> str:
    return f"[{', '.join(text(v) for v in values)}]"
