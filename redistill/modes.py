"""Modes of files: what lies in a home is its owner's alone, what a user asked to have written obeys
the user.

A process of ours masks everything that others may do (:func:`keep_private`), before it makes its
first file. What a command writes where its user said is made as the user's own mask has it
(:func:`as_the_user_has_it`): an exported trust file is for a service under another name.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterator
from pathlib import Path

__all__ = ["as_the_user_has_it", "close_to_others", "keep_private", "private_folder"]

OTHERS = 0o077
"""All that group and others may do."""

_given: list[int] = []
"""The mask that this process was started with, once it has one of its own."""


def keep_private() -> None:
    """Make files and folders for their owner only, from now on, in children too.

    Call it at a process' start: a mask is the whole process', and a library's user has one.
    """
    mask = os.umask(OTHERS)
    if not _given:
        _given.append(mask)


@contextlib.contextmanager
def as_the_user_has_it() -> Iterator[None]:
    """Files made in here have the mode that the user's own mask gives. For one thread."""
    if not _given:
        yield
        return
    ours = os.umask(_given[0])
    try:
        yield
    finally:
        os.umask(ours)


def private_folder(path: Path) -> None:
    """Make a folder with all above it that are missing, each for its owner only.

    Raises
    ------
    OSError
        It cannot be made.
    """
    missing = [path] if not path.exists() else []
    missing += [parent for parent in path.parents if missing and not parent.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True, mode=0o700)
    path.mkdir(exist_ok=True)  # as usual, where a file has that name


def close_to_others(home: Path, names: Container[str]) -> bool:
    """Take away what group and others may do with what we keep in a home, with everything below it,
    and with the home where nothing but ours is in it: an earlier version left them open.

    Links, what somebody else owns, and a folder of the user's that serves as home (a project's,
    say) are left as they are. Each folder is closed after what is in it: whoever finds it closed
    need not look below, and a start costs one look at the home.

    Parameters
    ----------
    names
        What we keep in a home. Hidden files do not count.

    Returns
    -------
    bool
        Whether anything was open. A process that keeps nothing private itself looks at nothing.

    Raises
    ------
    OSError
        It is ours, and its mode cannot be changed.
    """
    if not _given:
        return False
    try:
        found = sorted(entry.name for entry in os.scandir(home) if not entry.name.startswith("."))
    except OSError:
        return False  # not made yet, or not ours to look at: whoever uses it says so
    was_open = False
    for name in found:
        if name in names and _is_open(home / name):
            _close_tree(home / name)
            was_open = True
    if found and all(name in names for name in found) and _is_open(home.resolve()):
        _close(home)
        was_open = True
    return was_open


def _close_tree(top: Path) -> None:
    if not top.is_dir():
        _close(top)
        return
    for folder, _, names in os.walk(top, topdown=False):
        for path in (*(Path(folder, name) for name in names), Path(folder)):
            with contextlib.suppress(FileNotFoundError):  # others work here
                if _is_open(path):
                    _close(path)


def _is_open(path: Path) -> bool:
    """Whether others may do something with a file or a folder of ours.

    An access list is left as it is: somebody chose who may read, and its mask looks like a mode.
    """
    try:
        info = path.lstat()
    except OSError:  # gone meanwhile
        return False
    kind = stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)
    ours = kind and info.st_uid == os.geteuid()
    return ours and bool(info.st_mode & OTHERS) and not _has_list(path)


def _has_list(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access", follow_symlinks=False))
    except (OSError, AttributeError):  # none, or not Linux
        return False


def _close(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
