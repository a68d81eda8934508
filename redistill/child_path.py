"""The import path of a child process of ours: redistill and its libraries, not where we stand.

A child that is given the whole ``sys.path`` of a service also finds the ``kafka.py`` or ``json.py``
that lies beside the service's own script, and loads that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

PACKAGE_PARENT = str(Path(__file__).absolute().parent.parent)
"""The folder in which this process found the package ``redistill``."""


def python_path() -> str:
    """``PYTHONPATH`` for a child: redistill's folder, then our own path without script and current folder.

    Examples
    --------
    >>> os.getcwd() in python_path().split(os.pathsep)[1:]
    False
    """
    script = os.path.dirname(os.path.abspath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    near = {"", os.getcwd(), script}
    rest = [p for p in sys.path if p not in near and p != PACKAGE_PARENT]
    return os.pathsep.join([PACKAGE_PARENT, *rest])


def variables() -> Mapping[str, str]:
    """Variables that make a child import from :func:`python_path` only (Python 3.11's safe path)."""
    return {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"}
