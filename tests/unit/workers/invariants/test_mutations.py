"""Mutation test of ``check-history``: every column of every table is changed, every kind of row deleted and
doubled, one at a time. Each is reported, or stands on the list of what is not proven."""

from __future__ import annotations

from collections import defaultdict

from mutations import Mutation, mutations
from proven import World
from unproven import UNPROVEN, reason

from redistill.times import DAY
from redistill.workers.invariants import check
from redistill.workers.store.tables import metadata


def test_finished_installation_has_a_row_of_every_table(world: World) -> None:
    empty = [t.name for t in metadata.sorted_tables if not world.copy.rows(t)]
    assert empty == [], "what has no row is mutated by nobody: let it happen in `finished`"


def test_whole_check_holds_on_it(world: World) -> None:
    installation = world.installation
    checked = check.check(
        installation.database, now=installation.now + 1, home=installation.home,
        outbox_kept_us=30 * DAY, state_key=installation.settings.state_key_bytes(),
        settle_seconds=0.0,
    )  # fmt: skip
    assert [(c.number, c.problems) for c in checked] == [(n, ()) for n in range(1, 12)]


def test_every_mutation_is_reported_or_has_its_reason(world: World) -> None:
    kinds: dict[str, list[Mutation]] = defaultdict(list)
    for table in metadata.sorted_tables:
        for mutation in mutations(table, world.copy.rows(table)):
            kinds[mutation.name].append(mutation)
    # a kind is noticed if it is on each of the rows that are tried
    noticed = {name for name, tried in kinds.items() if all(map(world.noticed, tried))}
    missed = {name for name in kinds if name not in noticed and reason(name) is None}
    assert missed == set(), "report these in workers/invariants, or say in `unproven` why not"
    stale = {name for name in noticed if reason(name) is not None}
    assert stale == set(), "these are reported: take them off the list in `unproven`"
    known = {k for name in kinds for k in (name, _plain(name), f"{name.split('.')[0]}.*")}
    unknown = UNPROVEN.keys() - known
    assert unknown == set(), "there are no such tables and columns"


def _plain(name: str) -> str:
    """Without the row, of a table each of whose rows is of a kind of its own."""
    table, *_, what = name.split(".")
    return f"{table}.{what}"
