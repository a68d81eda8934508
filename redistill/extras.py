"""Extras of the installation: what is missing, hidden by a file of somebody's own, or broken, in
one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata, util
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ["ExtraError", "check", "distributions", "explain", "require", "version"]

DISTRIBUTIONS = {"kafka": "kafka-python"}
"""What is installed for a module, where it has another name."""

_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w, -]+)\])?[^;]*;.*extra == [\"']([\w-]+)[\"']")


class ExtraError(ImportError):
    """A library cannot be used; the message says which, and what to do."""

    exit_code = 2
    """As for wrong arguments: starting again cannot help."""


def require(extra: str, *, by: str) -> None:
    """Look whether all that an extra names is installed.

    Parameters
    ----------
    extra
        Its name in pyproject.toml.
    by
        Who needs it, to begin the sentence with.

    Raises
    ------
    ExtraError
        Something is missing.
    """
    missing = [name for name in sorted(distributions(extra)) if not _home(name)]
    if missing:
        raise ExtraError(_needs(by, extra, missing))


def check(*modules: str, extra: str, by: str) -> None:
    """Look whether modules can be imported, and are what they are taken for; imports nothing.

    A service's folder is the first in which Python looks for a module: a ``kafka.py`` there is
    loaded in place of the library.

    Parameters
    ----------
    modules
        Packages of an extra, by the names under which they are imported.
    extra, by
        As for :func:`require`.

    Raises
    ------
    ExtraError
        A module is missing, or a file or folder hides it.
    """
    for module in modules:
        try:
            spec = util.find_spec(module)
        except ValueError:  # put among the modules by hand, as tests do: somebody's own choice
            continue
        if spec is None or spec.origin is None:  # nothing, or a folder of data of that name
            raise ExtraError(_needs(by, extra, [module]), name=module)
        if (path := _impostor(module, spec)) is not None:
            raise ExtraError(
                f"{path} hides the library {module}, which {by} needs: give it another name"
                f" (redistill[{extra}] installs the library)",
                name=module,
                path=str(path),
            )


def explain(error: ImportError, *, extra: str, by: str) -> ExtraError | None:
    """What it means that an import failed.

    Returns
    -------
    ExtraError or None
        A library is missing or broken. ``None``: one of our own modules is, which is a defect and
        deserves its traceback.
    """
    library = _library(error)
    if library in ("", "redistill"):
        return None
    installed = metadata.packages_distributions().get(library, [])
    if not installed and library not in sys.stdlib_module_names:
        return ExtraError(_needs(by, extra, [library]), name=library)
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    what = f"pip install --force-reinstall {installed[0]}" if installed else "install Python anew"
    return ExtraError(f"{by}: {library} is broken ({why}): {what}", name=library)


def version() -> str:
    """Our version; in words where redistill is not installed, but on the path."""
    try:
        return metadata.version("redistill")
    except metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def distributions(extra: str) -> set[str]:
    """Names of all that an extra installs by itself or through our other extras.

    Empty where redistill is not installed: a checkout on the path has no metadata to read.
    """
    try:
        lines = metadata.requires("redistill") or []
    except metadata.PackageNotFoundError:
        return set()
    found: set[str] = set()
    for name, extras, own in (m.groups() for m in map(_REQUIREMENT.match, lines) if m):
        if own != extra:
            continue
        found |= (
            set().union(*map(distributions, re.split(r", *", extras)))
            if name == "redistill"
            else {name}
        )
    return found


def _needs(by: str, extra: str, missing: Iterable[str]) -> str:
    named = list(missing)
    which = f" ({', '.join(named)} missing)" if len(named) <= 2 else ""
    return f"{by} needs redistill[{extra}]{which}: pip install 'redistill[{extra}]'"


def _home(distribution: str) -> Path | None:
    """The folder into which a distribution was installed."""
    try:
        return Path(str(metadata.distribution(distribution).locate_file("")))
    except metadata.PackageNotFoundError:
        return None


def _impostor(module: str, spec: ModuleSpec) -> Path | None:
    """The file or folder that would be imported, if it is not the library."""
    origin = Path(spec.origin or "")
    if not origin.is_file():  # in an archive, or frozen
        return None
    if spec.submodule_search_locations is None:  # all our libraries are packages
        return origin if origin.suffix == ".py" else None
    home = _home(DISTRIBUTIONS.get(module, module))
    if home is None or not (home / module).is_dir() or _is_copy(origin.parent, home / module):
        return None
    return origin.parent


def _is_copy(folder: Path, library: Path) -> bool:
    """Whether most of a library's files are in a folder too, with or without its metadata."""
    own = {"__init__.py", "__pycache__"}
    names = set(os.listdir(library)) - own
    return 2 * len(names & set(os.listdir(folder))) >= len(names)


def _library(error: ImportError) -> str:
    """The library that our code was importing, or the module that does not exist."""
    names = []
    trace = error.__traceback__
    while trace is not None:
        names.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    ours = max((i for i, name in enumerate(names) if name == "redistill"), default=-1)
    entered = [name for name in names[ours + 1 :] if name != "importlib"]
    return entered[0] if entered else (error.name or "").partition(".")[0]
