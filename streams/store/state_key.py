"""State key of a database: under which key its states are sealed, so that a worker with another one
is refused before it takes them for forged and starts every detector anew."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.errors import StoreUnusable
from redistill.streams.monitor.seal import fingerprint
from redistill.streams.store import properties
from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import accuracy_states, input_states
from redistill.streams.store.tables import properties as table

__all__ = ["STATE_KEY", "any_states", "claim"]

STATE_KEY = "state_key"
"""Name of the property: the fingerprint of the key. That it is there says that every state is
sealed."""


def claim(conn: sa.Connection, key: bytes) -> None:
    """Make sure that the states of this database are sealed under this key; where there are none
    yet, it is the key from now on.

    Parameters
    ----------
    conn
        A writing transaction (``Database.begin``).

    Raises
    ------
    StoreUnusable
        They are sealed under another key, or not at all; the message says what to do.
    """
    mine = fingerprint(key)
    stored = properties.get(conn, STATE_KEY)
    if stored is None:
        if any_states(conn):
            raise StoreUnusable(
                "the stored states of detectors are not sealed yet: stop the workers and run"
                " `redistill db upgrade` where the state key is"
            )
        conn.execute(insert_ignore(table).values(name=STATE_KEY, value=mine))
        stored = properties.get(conn, STATE_KEY)  # another worker may have been first
    if stored != mine:
        raise StoreUnusable(
            "the state key of this worker is not the one under which the detectors of this database"
            " are stored, and they would all start anew: give it the key of the other workers"
            " (REDISTILL_STATE_KEY, or keys/state.key in the home); if that is lost, stop the"
            " workers and run `redistill db upgrade --new-state-key`"
        )


def any_states(conn: sa.Connection) -> bool:
    """Whether there are states at all."""
    return any(
        conn.execute(sa.select(states.c.model).limit(1)).first() is not None
        for states in (input_states, accuracy_states)
    )
