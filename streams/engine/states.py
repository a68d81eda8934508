"""Input states as SQL has them."""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from streams.errors import StateError
from streams.monitor.observe import InputState
from streams.store.batch import Place
from streams.store.database import Database
from streams.store.tables import input_states

log = structlog.get_logger(__name__)


def stored_state(
    database: Database, key: bytes, model: str, version: str, place: Place
) -> tuple[InputState | None, bool]:
    """The state of one version on one partition.

    Parameters
    ----------
    key
        Authenticates its pickled part.

    Returns
    -------
    tuple
        The state, ``None`` if there is none; and whether there was one that cannot be used (another
        key, another version of River): it is built anew from the rows to come.
    """
    c = input_states.c
    with database.read() as conn:
        blob = conn.execute(
            sa.select(c.state).where(
                c.model == model,
                c.version == version,
                c.topic_id == place[0],
                c.partition == place[1],
            )
        ).scalar_one_or_none()
    if blob is None:
        return None, False
    try:
        return InputState.from_bytes(bytes(blob), key), False
    except StateError as error:
        log.error(
            "state_rebuilt",
            action="state_rebuilt",
            model=model,
            version=version,
            partition=place[1],
            error=str(error),
        )
        return None, True
