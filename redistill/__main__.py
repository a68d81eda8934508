"""The command line as a module: ``python -m redistill``."""

from __future__ import annotations

from redistill.workers.cli.main import main

if __name__ == "__main__":
    main()
