"""``python -m workers``: the command line without an installed script."""

from workers.cli.main import main

main()
