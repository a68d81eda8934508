"""Log lines of a command: warnings go to standard error, and nothing among what it prints.

Modules that processes and commands share log; unconfigured, structlog prints that on standard
output, in the middle of a JSON document. It takes a tenth of a second to import, so commands that
log nothing do without: it is configured when somebody else imports it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["keep_off_stdout"]


def keep_off_stdout() -> None:
    """Configure structlog for a command, now or once it is imported. For a program, not for a
    test."""
    if "structlog" in sys.modules:
        _configure()
    else:
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find structlog as it would be found, and configure it behind its import."""
        if fullname != "structlog":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        loader = None if spec is None else spec.loader
        if loader is not None:
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _configure()

            setattr(loader, "exec_module", exec_module)  # noqa: B010  # of this one object
        return spec


def _configure() -> None:
    import structlog

    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
