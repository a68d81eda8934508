"""Signing: signed metadata that come near their end, because nobody has signed them again.

They are signed again at half of their life; clients stop believing the repository when the first of
them ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from redistill.times import to_us
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import count, duration
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import repository_roles

__all__ = ["near_expiry"]

OPENS_SHARE, CLOSES_SHARE = 0.75, 0.6
"""Of the life of signed metadata that has passed."""


def near_expiry(look: Look) -> Sequence[Reading]:
    """How much of its life the oldest signature has behind it."""
    r = repository_roles.c
    ends = {
        str(role): int(at)
        for role, at in look.conn.execute(sa.select(r.role, r.expires_at).order_by(r.role))
    }
    lifetimes = Lifetimes.of_pointer(look.settings.pointer_ttl_hours)
    return [] if not ends else [reading(ends, lifetimes, look.now)]


def reading(ends: Mapping[str, int], lifetimes: Lifetimes, now: int) -> Reading:
    """One for the repository, about the role that is worst off.

    Parameters
    ----------
    ends
        When each role's metadata end, microseconds since 1970.
    """
    passed = {
        role: 1.0 - (at - now) / to_us(lifetimes.of(role).total_seconds())
        for role, at in ends.items()
    }
    worst = max(passed, key=lambda role: (passed[role], role))
    near = sum(share >= OPENS_SHARE for share in passed.values())
    also = f" ({count(near, 'role')} near the end)" if near > 1 else ""
    left = ends[worst] - now
    when = f"ends in {duration(left)}" if left > 0 else f"ended {duration(-left)} ago"
    return Reading(
        subject="repository",
        value=passed[worst],
        opens=OPENS_SHARE,
        closes=CLOSES_SHARE,
        said=f"the signature of the role {worst} {when}{also}: clients take no release then",
        remedy="the repair worker signs at half of the time: look whether it runs (`redistill run"
        " repair`) and has the keys (`redistill keys`); its log says what holds it up",
    )
