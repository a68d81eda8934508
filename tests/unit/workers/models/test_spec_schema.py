"""Schema section: shorthand for features, ranges, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from model_toml import refused
from odd_names import ODD

from redistill.streams.wire.block import Feature, Schema
from redistill.workers.models import spec_schema
from redistill.workers.models.spec_schema import expand, members, read_schema, unknown_key

GOOD: dict[str, Any] = {
    "features": {"region": ["EU", "US"], "p[0-3]": {"type": "float", "min": 0, "max": 1}},
    "classes": ["repay", "default"],
}


def problems_of(**changes: Any) -> list[str]:
    problems: list[str] = []
    schema = read_schema(GOOD | changes, problems)
    assert (schema is None) == bool(problems)
    return problems


def schema_of(**changes: Any) -> Schema:
    schema = read_schema(GOOD | changes, [])
    assert schema is not None
    return schema


def test_a_missing_schema_is_said(tmp_path: Path) -> None:
    assert "--from-traffic" in refused(tmp_path, 'name = "x"')[0]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("age", ["age"]),
        ("p[0-2]", ["p0", "p1", "p2"]),
        ("p[9-10]_z", ["p9_z", "p10_z"]),
        ("p[7-7]", ["p7"]),
        ("p[3-1]", None),
        ("p[0-4095]", [f"p{i}" for i in range(4_096)]),
        ("p[0-4096]", None),  # more columns than a model may have
        ("p[a-b]", None),
        ("p]", None),
        (" ", None),
    ],
)
def test_a_range_stands_for_names(name: str, names: list[str] | None) -> None:
    assert expand(name) == names


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("float", Feature(name="f")),
        ("int", Feature(name="f", kind="int")),
        (["b", "a"], Feature(name="f", kind="category", values=("b", "a"))),
        ([1, 2], Feature(name="f", kind="category", values=("1", "2"))),
        ({"values": ["a", "b"]}, Feature(name="f", kind="category", values=("a", "b"))),
        ({"type": "float", "min": 0}, Feature(name="f", minimum=0)),
        ({"type": "int", "min": -1, "max": 1}, Feature(name="f", kind="int", minimum=-1, maximum=1)),
    ],
)  # fmt: skip
def test_a_feature_may_be_written_short(written: Any, read: Feature) -> None:
    assert schema_of(features={"f": written}).features == (read,)


def test_features_stand_as_they_are_written_unless_an_order_says_otherwise() -> None:
    assert schema_of().names == ("region", "p0", "p1", "p2", "p3")
    ordered = schema_of(order=["p[2-3]", "region", "p[0-1]"])
    assert ordered.names == ("p2", "p3", "region", "p0", "p1")
    assert ordered.features[2].values == ("EU", "US")


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_is_told_is_no_syntax(name: str) -> None:
    described = {"name": name, "type": "int", "min": 0}
    wanted = (Feature(name=name, kind="int", minimum=0),)
    assert schema_of(features={"any key": described}).features == wanted
    assert schema_of(features=[described]).features == wanted


def test_a_feature_of_this_very_name_goes_before_a_range() -> None:
    odd = {"name": "p[0-1]", "type": "float"}
    schema = schema_of(features={"p[0-1]": "float", "odd": odd}, order=["p1", "p[0-1]", "p0"])
    assert schema.names == ("p1", "p[0-1]", "p0")
    assert members("p[0-1]", schema.names) == ["p[0-1]"]
    assert members("p[0-1]", ("p0", "p1")) == ["p0", "p1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": None}, "[schema] classes is missing: a list of names was expected"),
        ({"classes": ["repay"]}, "[schema] classes = ['repay']: at least two were expected"),
        ({"classes": ["a", "a"]}, "[schema] classes: 'a' stands there twice"),
        (
            {"classes": ["a", "b" * 257]},
            f"[schema] classes: '{'b' * 40}'... has more than 256 characters",
        ),
        ({"classes": [True, False]}, "[schema] classes: True is no name (put it in quotes)"),
        ({"slices": "region"}, "[schema] slices = 'region': a list of names was expected"),
        ({"groups": "sex"}, "[schema] groups = 'sex': a list of names was expected"),
        ({"clases": []}, "[schema] clases: there is no such key; did you mean classes?"),
        ({"features": {}}, "[schema] features: a table such as"),
        ({"classes": ["a", "b\0"]}, r"[schema] classes: 'b\x00' holds NUL"),
        ({"features": {"a\0": "float"}}, "[schema] features.a\0: 'a\\x00' holds NUL"),
        ({"order": ["region"]}, "[schema] order: p0, p1, p2, p3 not in it"),
        ({"order": ["region", "p[0-3]", "q"]}, "[schema] order: q not among the features"),
        ({"order": ["region", "p[0-3]", "p1"]}, "[schema] order: a name stands there twice"),
    ],
)
def test_a_wrong_schema_is_said_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    (problem,) = problems_of(**changes)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ("text", "type = 'text': \"float\", \"int\" or a list of values was expected"),
        (7, '= 7: "float", "int", a list of values, or a table was expected'),
        ({"type": "float", "min": 1, "max": 1}, ": min = 1 is not below max = 1"),
        ({"type": "float", "min": "a"}, "min = 'a': a number was expected"),
        ({"type": "float", "max": True}, "max = True: a number was expected"),
        ({"type": "float", "values": ["a"]}, "values: only a category has values"),
        ({"type": "category"}, "values is missing: a list of names was expected"),
        ({"values": ["a"], "min": 0}, "min: a category has no min"),
        ({"type": "float", "mn": 0}, ".mn: there is no such key; did you mean min?"),
        ([], "values = []: a list of names was expected"),
        ([str(i) for i in range(1_001)], ": 1001 values; more than 1000 are no category"),
    ],
)  # fmt: skip
def test_a_wrong_feature_is_said_with_its_name(feature: Any, said: str) -> None:
    (problem,) = problems_of(features={"age": feature})
    assert problem.startswith("[schema] features.age")
    assert problem.removeprefix("[schema] features.age").strip() == said


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            {"p[3-0]": "float"},
            "[schema] features.p[3-0]: a range such as p[0-63] was expected; a column of just this"
            ' name is declared by { name = "p[3-0]", type = ... }',
        ),
        ({"p[0-2]": "float", "p1": "int"}, "[schema] features.p1: p1 is declared twice"),
        (
            {"p[0-2]": "float", "q": {"name": "p1", "type": "int"}},
            "[schema] features.q: p1 is declared twice",
        ),
        ({"q": {"name": 7, "type": "int"}}, "[schema] features.q name = 7: a text was expected"),
        (
            [{"name": "a", "type": "int"}, {"type": "float"}],
            '[schema] features[1]: { name = "age", type = "float" } was expected',
        ),
        (["a"], '[schema] features[0]: { name = "age", type = "float" } was expected'),
        (
            [],
            '[schema] features: a table such as { age = "int", region = ["EU", "US"] } was expected',
        ),
    ],
)
def test_wrong_names_are_said(features: Any, said: str) -> None:
    assert problems_of(features=features) == [said]


def test_no_more_features_than_a_model_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_schema, "MAX_FEATURES", 3)
    assert problems_of(features={"p[0-1]": "float", "q": "float"}) == []
    (problem,) = problems_of(features={"p[0-1]": "float", "q[0-1]": "float"})
    assert problem == "[schema] features.q[0-1]: more than 3 features"


def test_an_unknown_key_is_said_with_the_nearest_one_or_all() -> None:
    known = ("min", "max")
    assert unknown_key("[x] ", "mim", known) == "[x] mim: there is no such key; did you mean min?"
    assert unknown_key("", "unit", known) == "unit: there is no such key; known are min, max"


def test_categories_that_are_no_slices_are_features_that_are_declared_as_nothing_else() -> None:
    features = {"x": "float", "region": ["EU", "US"]}
    given = {"features": features, "no_slices": ["region"]}
    schema = read_schema(GOOD | given, [])
    assert schema is not None
    assert schema.no_slices == ("region",)
    for wrong, why in (
        ({"no_slices": ["shop"]}, "[schema] no_slices: 'shop' is no feature"),
        ({"slices": ["region"]}, "'region' is declared under slices or groups"),
        ({"groups": ["region"]}, "'region' is declared under slices or groups"),
    ):
        problems: list[str] = []
        assert read_schema(GOOD | given | wrong, problems) is None
        assert why in problems[-1]
