"""Places: the connections of the web process, and which of them has to leave. Pure: no socket, no
clock.

A server that refuses newcomers when it is full is closed by whoever opens connections and says
nothing. Here a newcomer takes the place of the least useful connection: one that never asked for
anything, before one that is idle, before one whose reader does not read. Who showed the token is
left in peace as long as there are others, and one peer's connections push out its own.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from redistill.workers.web.limits import Limits

__all__ = ["Phase", "Place", "Places", "peer_of"]

LEAST_BYTES = 16_384
"""That a reader must take to count as one."""
BATCH = 16
"""When all places are taken, the sixteenth part is freed at once: choosing looks at all of them."""


def peer_of(address: str) -> str:
    """Whom an address belongs to, as far as limits go: one IPv4 address, or an IPv6 network of 64
    bits, which is what one customer gets.

    Examples
    --------
    >>> peer_of("10.0.0.1"), peer_of("::ffff:10.0.0.1"), peer_of("2001:db8::7:1%eth0")
    ('10.0.0.1', '10.0.0.1', '2001:db8::/64')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


class Phase(enum.Enum):
    """What a connection is doing."""

    ASKING = "asking"
    """TLS is being set up, or a header is not complete."""
    IDLE = "idle"
    """Everything asked was answered."""
    ANSWERING = "answering"
    TAKING = "taking"
    """A body is coming that nobody wants, or the end of the connection."""


@dataclass(eq=False, slots=True)
class Place:
    """One connection."""

    peer: str
    since: float
    """When its phase began, monotonic seconds."""
    phase: Phase = Phase.ASKING
    moved: float = 0.0
    """When its answer last moved on."""
    unread: int = 0
    """Bytes of answers that its reader had not taken when last looked at."""
    mark: int = 0
    """Such bytes when it last moved on, or more if more were answered since."""
    known: bool = False
    """Whether it showed that it may read the repository."""
    look: Callable[[], object] = field(default=lambda: None)
    """Finds out whether its reader reads."""
    end: Callable[[], object] = field(default=lambda: None)
    """Ends it at once."""

    def turn(self, phase: Phase, now: float) -> None:
        """Note what it does now."""
        if phase is not self.phase:
            self.phase, self.since, self.moved = phase, now, now

    def read(self, unread: int, now: float) -> None:
        """Note what its reader has left unread: taking some of it is moving on, byte for byte is
        not."""
        self.unread = unread
        done = unread == 0 and self.phase is not Phase.ANSWERING
        if done or self.mark - unread >= LEAST_BYTES:
            self.moved, self.mark = now, unread
        self.mark = max(self.mark, unread)

    def overdue(self, limits: Limits, now: float) -> str | None:
        """Why it must end: ``header``, ``body``, ``idle`` or ``read``; ``None``: it need not."""
        if self.unread or self.phase is Phase.ANSWERING:
            return "read" if now - self.moved > limits.write_seconds else None
        waited = now - self.since
        if self.phase is Phase.ASKING and waited > limits.header_seconds:
            return "header"
        if self.phase is Phase.TAKING and waited > limits.body_seconds:
            return "body"
        return "idle" if self.phase is Phase.IDLE and waited > limits.idle_seconds else None

    def worth(self, limits: Limits, now: float) -> int | None:
        """How soon it leaves for a newcomer, 0 first; ``None``: it stays."""
        if self.unread or self.phase is Phase.ANSWERING:
            return 3 if now - self.moved >= limits.stalled_seconds else None
        if self.known:
            return 2
        return 0 if self.phase is Phase.ASKING else 1


class Places:
    """All connections.

    Parameters
    ----------
    limits
        How many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._by_peer: dict[str, dict[Place, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Place]:
        for places in self._by_peer.values():
            yield from places

    def of(self, peer: str) -> int:
        """How many connections a peer has."""
        return len(self._by_peer.get(peer, ()))

    def enter(self, peer: str, now: float) -> tuple[Place | None, list[Place]]:
        """Let a newcomer in.

        Returns
        -------
        tuple
            Its place, ``None`` if it must go; and the places that it needed, which were left and
            have to be ended.
        """
        gone: list[Place] = []
        if self.of(peer) >= self.limits.per_peer:
            mine = self._by_peer[peer]
            # in order of coming: under a flood the first one is it, and nobody looks at all
            silent = next((p for p in mine if p.worth(self.limits, now) == 0), None)
            gone = self._least(mine, 1, now) if silent is None else [silent]
            if not gone:
                return None, []
        elif self._count >= self.limits.connections:
            gone = self.free(now)
            if not gone:
                return None, []
        for place in gone:
            self.leave(place)
        entered = Place(peer=peer, since=now, moved=now)
        self._by_peer.setdefault(peer, {})[entered] = None
        self._count += 1
        return entered, gone

    def free(self, now: float) -> list[Place]:
        """The places that a full house gives up, of the peers that have most of them."""
        return self._least(self, max(1, self._count // BATCH), now)

    def leave(self, place: Place) -> None:
        """Take note that a connection ended. Safe to call twice."""
        places = self._by_peer.get(place.peer)
        if places is None or place not in places:
            return
        del places[place]
        self._count -= 1
        if not places:
            del self._by_peer[place.peer]

    def _least(self, among: Iterable[Place], number: int, now: float) -> list[Place]:
        """The least useful places; all of one worth, so that none is given up for its number."""
        ranked: dict[int, list[Place]] = {}
        for place in among:
            worth = place.worth(self.limits, now)
            if worth is not None:
                ranked.setdefault(worth, []).append(place)
        if not ranked:
            return []
        worst = ranked[min(ranked)]
        held = Counter(place.peer for place in worst)
        worst.sort(key=lambda place: (-held[place.peer], place.since))
        return worst[:number]
