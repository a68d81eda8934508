"""Libraries that are missing, hidden or broken are told in one sentence; copies and stand-ins of
tests are let be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import invalidate_caches, metadata
from pathlib import Path
from types import ModuleType

import pytest

from redistill import extras
from redistill.extras import ExtraError, check, distributions, explain, require

NEEDS = "redistill.Thing needs redistill[client] (wanted missing): pip install 'redistill[client]'"


def package(folder: Path, name: str, *files: str) -> Path:
    """A package in a folder."""
    (folder / name).mkdir(parents=True)
    for file in ("__init__.py", *files):
        (folder / name / file).touch()
    return folder / name


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed libraries, with ``wanted``; before it on the path the folder of a
    service."""
    site, service = tmp_path / "site", tmp_path / "service"
    package(site, "wanted", "producer.py", "consumer.py", "codec.py")
    (site / "wanted-1.0.dist-info").mkdir()
    (site / "wanted-1.0.dist-info" / "METADATA").write_text("Name: wanted\nVersion: 1.0\n")
    service.mkdir()
    monkeypatch.setattr(sys, "path", [str(service), str(site), *sys.path])
    invalidate_caches()
    return site


@pytest.fixture
def service(site: Path) -> Path:
    """The folder of the service."""
    return site.parent / "service"


def refusal(*modules: str) -> str:
    """What :func:`check` says."""
    invalidate_caches()
    with pytest.raises(ExtraError) as caught:
        check(*modules, extra="client", by="redistill.Thing")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def let_be(*modules: str) -> None:
    invalidate_caches()
    check(*modules, extra="client", by="redistill.Thing")


def test_library_that_is_there_is_let_be(site: Path) -> None:
    let_be("wanted")
    assert "wanted" not in sys.modules


def test_file_that_hides_a_library_is_named(service: Path) -> None:
    (service / "wanted.py").touch()
    told = refusal("wanted")
    assert told.startswith(
        f"{service / 'wanted.py'} hides the library wanted, which redistill.Thing needs"
    )
    assert "give it another name" in told


def test_folder_that_hides_a_library_is_named(service: Path) -> None:
    package(service, "wanted", "models.py")
    assert refusal("wanted").startswith(f"{service / 'wanted'} hides the library wanted")


def test_file_is_named_where_the_library_is_not_even_installed(service: Path) -> None:
    (service / "absent_library.py").touch()
    assert refusal("absent_library").startswith(f"{service / 'absent_library.py'} hides")


def test_copy_without_metadata_is_let_be(service: Path) -> None:
    package(service, "wanted", "producer.py", "consumer.py", "codec.py", "ours.py")
    let_be("wanted")


def test_folder_of_data_hides_nothing(service: Path) -> None:
    (service / "wanted").mkdir()
    let_be("wanted")


def test_missing_library_names_the_extra(service: Path) -> None:
    assert refusal("wanted_too") == NEEDS.replace("wanted", "wanted_too")
    (service / "wanted_too").mkdir()
    assert refusal("wanted_too") == NEEDS.replace("wanted", "wanted_too")


def test_stand_in_of_a_test_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wanted_too", ModuleType("wanted_too"))
    sys.modules["wanted_too"].__spec__ = None
    let_be("wanted_too")


@pytest.fixture
def requirements(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what redistill requires, and which of it is installed."""

    def say(lines: list[str] | None, installed: set[str]) -> None:
        def requires(name: str) -> list[str] | None:
            if lines is None:
                raise metadata.PackageNotFoundError(name)
            return lines

        monkeypatch.setattr(metadata, "requires", requires)
        monkeypatch.setattr(extras, "_home", lambda name: Path("/") if name in installed else None)

    return say


LINES = [
    "numpy>=1.26",
    'kafka-python[lz4,zstd]<4,>=3; extra == "client"',
    'tuf>=6; extra == "client"',
    "torch>=2; extra == 'compress'",
    'redistill[client, compress]; extra == "worker"',
    'fast.api>=1; extra == "worker"',
]


def test_extra_is_all_that_it_and_its_extras_name(requirements: Callable[..., None]) -> None:
    requirements(LINES, set())
    assert distributions("client") == {"kafka-python", "tuf"}
    assert distributions("worker") == {"kafka-python", "tuf", "torch", "fast.api"}
    requirements(None, set())
    assert distributions("worker") == set()
    require("worker", by="redistill topics")


def test_version_is_told_in_words_where_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert extras.version() == metadata.version("redistill")

    def nowhere(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nowhere)
    assert extras.version() == "(a checkout that is not installed)"


def test_extra_that_is_missing_is_named_with_what_is_missing_of_it_where_that_is_little(
    requirements: Callable[..., None],
) -> None:
    requirements(LINES, {"kafka-python", "tuf", "fast.api"})
    require("client", by="redistill topics")
    for installed, which in (
        ({"kafka-python", "tuf", "fast.api"}, " (torch missing)"),
        ({"kafka-python"}, ""),
    ):
        requirements(LINES, installed)
        with pytest.raises(ExtraError) as caught:
            require("worker", by="redistill topics")
        told = f"redistill topics needs redistill[worker]{which}: pip install 'redistill[worker]'"
        assert str(caught.value) == told


def raised(statement: str, name: str = "redistill.workers.cli.topics") -> ImportError:
    """What an import raises in a module of ours."""
    try:
        exec(compile(statement, "topics.py", "exec"), {"__name__": name})
    except ImportError as error:
        return error
    raise AssertionError(statement)


def told(error: ImportError) -> str | None:
    found = explain(error, extra="worker", by="redistill topics")
    return None if found is None else str(found)


def test_import_of_what_is_not_installed_names_the_extra() -> None:
    assert told(raised("import no_such.part")) == (
        "redistill topics needs redistill[worker] (no_such missing): pip install 'redistill[worker]'"
    )


def test_library_that_is_broken_inside_is_named_with_the_cause(site: Path) -> None:
    (site / "wanted" / "__init__.py").write_text("import no_such_helper")
    (site / "wanted-1.0.dist-info" / "RECORD").write_text("wanted/__init__.py,,\n")
    invalidate_caches()
    assert told(raised("import wanted")) == (
        "redistill topics: wanted is broken (No module named 'no_such_helper'):"
        " pip install --force-reinstall wanted"
    )


def test_name_that_a_library_lost_is_told_with_the_library() -> None:
    text = str(told(raised("from msgspec import no_such_name")))
    assert text.startswith("redistill topics: msgspec is broken (cannot import name 'no_such_name'")
    assert text.endswith("pip install --force-reinstall msgspec")


def test_defect_of_ours_keeps_its_traceback() -> None:
    assert told(raised("import redistill.no_such_room")) is None
    assert told(raised("from redistill.streams.errors import NoSuchError")) is None
    assert told(ImportError("without a name")) is None


@pytest.mark.parametrize(
    ("name", "file"), [("PredictionLogger", "kafka.py"), ("PredictionLogger", "pyarrow.py"), ("ModelClient", "tuf.py")]
)  # fmt: skip
def test_service_beside_a_file_named_like_a_library_is_told_at_its_start(
    tmp_path: Path, name: str, file: str
) -> None:
    (tmp_path / file).write_text("raise SystemExit('it was run')")
    script = tmp_path / "service.py"
    script.write_text(f"from redistill import {name}")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"{tmp_path / file} hides the library {file[:-3]}, which redistill.{name} needs" in last


def test_logger_that_is_made_after_the_path_changed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill import PredictionLogger

    for name in [n for n in sys.modules if n.partition(".")[0] == "kafka"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kafka.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=r"kafka\.py hides the library kafka"):
        PredictionLogger("127.0.0.1:1")
