"""Limits of the web process: how many may come in, and how long each may take.

Chosen so that everybody who asks as a client does is answered while others hold all the
connections that they can get: see :mod:`redistill.workers.web.places` for who has to leave.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

__all__ = ["Limits", "raise_descriptors"]

RESERVED_DESCRIPTORS = 96
"""For what is no connection: libraries, the database, metadata files, the log."""
MOST_CONNECTIONS = 1_000
"""A fleet of a thousand services polls with one connection each; every one costs 30 KB."""
FEWEST_CONNECTIONS = 16
WANTED_DESCRIPTORS = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the doors allow. Times are seconds, sizes bytes."""

    connections: int = MOST_CONNECTIONS
    """At once. One more takes the place of the least useful one."""
    per_peer: int = 128
    """Of these, from one address (IPv6: from one /64 network). A proxy is one peer."""
    downloads: int = MOST_CONNECTIONS // 2
    """Files of releases that are sent at once; more are asked to come again."""
    downloads_per_peer: int = 64
    header_seconds: float = 10.0
    """From connecting, or a request's first byte, to the end of its header, TLS included. Clients
    send it whole."""
    body_seconds: float = 5.0
    """For what comes behind a header: nothing here takes a body."""
    body_bytes: int = 65_536
    """Of a body that are read and thrown away, so that its sender reads the answer."""
    idle_seconds: float = 65.0
    """Between two requests: longer than a client's poll, so that its connection is reused."""
    write_seconds: float = 30.0
    """In which a reader must take 16 KiB (546 B/s), or all that is left."""
    stalled_seconds: float = 2.0
    """An answer that did not move for so long is given up when its place is needed."""
    denials_per_minute: int = 30
    """Wrong tokens of one peer; beyond them its connections are closed. The right one is always
    taken."""

    @classmethod
    def of(cls, descriptors: int, *, per_peer: int = 128) -> Limits:
        """Limits that fit into a number of file descriptors: a download needs two.

        Examples
        --------
        >>> limits = Limits.of(256)
        >>> limits.connections, limits.downloads, limits.per_peer, limits.downloads_per_peer
        (106, 53, 106, 39)
        >>> Limits.of(1_048_576, per_peer=2_000).per_peer
        1000
        """
        usable = max(FEWEST_CONNECTIONS, descriptors - RESERVED_DESCRIPTORS)
        connections = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, usable * 2 // 3))
        downloads = max(4, min(connections // 2, usable - connections))
        own = min(per_peer, connections)
        return cls(
            connections=connections,
            per_peer=own,
            downloads=downloads,
            downloads_per_peer=max(2, min(own // 2, downloads * 3 // 4)),
        )


def raise_descriptors() -> int:
    """Allow this process the descriptors that it may have; how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    wanted = WANTED_DESCRIPTORS if hard == infinite else min(hard, WANTED_DESCRIPTORS)
    if soft != infinite and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return WANTED_DESCRIPTORS if soft == infinite else soft
