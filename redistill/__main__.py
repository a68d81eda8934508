"""The command line as a module: ``python -m redistill``."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python put the current folder in front: a kafka.py there is none of ours
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]
    from redistill.workers.cli.main import main

    main()
