"""Egress: to which addresses a channel may connect, judged on the address itself, after its name
was resolved, on the connection that is then used.

A URL in a configuration, or behind a secret, must not make the alert process speak to services
that only it can reach (server-side request forgery): a name may resolve to anything, and to
something else a moment later.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["EVERYWHERE", "EgressRefused", "Network", "connect", "is_allowed", "judge", "refusal"]

Network = IPv4Network | IPv6Network
Ip = IPv4Address | IPv6Address

METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, Oracle, OpenStack, DigitalOcean
            "169.254.170.2",  # AWS, containers
            "169.254.170.23",  # AWS, pods
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
        ),
    )
)
"""Where clouds hand credentials to whoever asks: refused also inside an allowed network."""
SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""For protocols or documents, not for hosts; not every Python counts them as such."""
UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is given to hosts of the Internet (IANA's registry of the address space)."""
EVERYWHERE: Sequence[Network] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
HOLD_IPV4 = {96: ("::/96", "::ffff:0:0/96", "64:ff9b::/96"), 16: ("2002::/16",)}
"""Bits in front of an IPv4 address -> networks in which an address holds one."""
ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""In front of the IPv4 address at the end of an ISATAP one (RFC 5214), whatever its network is: a
router may take it out of its tunnel there. What an operator's own prefix leads to (NAT64 of RFC
6052, 6rd) nobody can tell by the address."""


class EgressRefused(Exception):
    """A channel may not connect there; the message says why and what would allow it."""


def _reached(address: Ip) -> Ip:
    """The IPv4 address to which an IPv6 one leads, where it holds one."""
    if isinstance(address, IPv6Address):
        for front, networks in HOLD_IPV4.items():
            if any(address in IPv6Network(n) for n in networks):
                return IPv4Address(int(address) >> (128 - front - 32) & 0xFFFF_FFFF)
    return address


def _tunnelled(address: Ip) -> IPv4Address | None:
    """The IPv4 address at the end of an ISATAP one."""
    if isinstance(address, IPv6Address) and int(address) >> 32 & 0xFFFF_FFFF in ISATAP:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def is_allowed(address: Ip, allowed: Sequence[Network]) -> bool:
    """Whether a network that the channel allows holds an address.

    Examples
    --------
    >>> ten = [ip_network("10.0.0.0/8")]
    >>> is_allowed(ip_address("10.1.2.3"), ten), is_allowed(ip_address("::ffff:10.1.2.3"), ten)
    (True, True)
    """
    reached = _reached(address)
    return any(a in network for network in allowed for a in {address, reached})


def refusal(address: str, allowed: Sequence[Network]) -> str | None:
    """Why a channel may not connect to an address; ``None``: it may.

    Parameters
    ----------
    address
        As the resolver gives it.
    allowed
        Networks of ``allow_private``.

    Examples
    --------
    >>> refusal("8.8.8.8", [])
    >>> refusal("10.1.2.3", [])
    '10.1.2.3 is no public address'
    >>> refusal("169.254.169.254", [ip_network("169.254.0.0/16")])
    '169.254.169.254 is where a cloud keeps credentials'
    """
    if "%" in address:
        return f"{address} is an address of one interface"
    given = ip_address(address)
    reached = _reached(given)
    if given in METADATA or reached in METADATA:
        return f"{address} is where a cloud keeps credentials"
    behind = _tunnelled(given)
    if behind is not None and refusal(str(behind), allowed) is not None:
        return f"{address} leads to {behind}, which is no public address"
    if is_allowed(given, allowed):
        return None
    public = reached.is_global and not reached.is_multicast
    public = public and not any(reached in network for network in SPECIAL)
    if isinstance(reached, IPv6Address):
        public = public and reached in UNICAST
    return None if public else f"{address} is no public address"


def judge(host: str, allowed: Sequence[Network]) -> None:
    """Nothing, if a host is a name, or an address that may be connected to.

    Raises
    ------
    EgressRefused
        It is an address that may not.

    Examples
    --------
    >>> judge("hooks.example", [])
    """
    try:
        ip_address(host)
    except ValueError:
        return
    if (why := refusal(host, allowed)) is not None:
        raise EgressRefused(why)


def connect(host: str, port: int, *, allowed: Sequence[Network], seconds: float) -> socket.socket:
    """A TCP connection to a host, if every address of it may be connected to.

    The name is resolved once, and what was judged is what is connected to. One address that is
    refused refuses the host: who holds a name that leads both ways chooses the moment.

    Raises
    ------
    EgressRefused
        An address is refused.
    OSError
        The name is not known, or no address answers within ``seconds``.
    """
    end = time.monotonic() + seconds
    found = _resolve(host, port, seconds)
    for *_, address in found:
        if (why := refusal(str(address[0]), allowed)) is not None:
            raise EgressRefused(f"{host}: {why}")
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            # a silent address leaves time for those behind it
            left = (end - time.monotonic()) / (len(found) - tried)
            sock.settimeout(max(left, 0.001))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


Found = list[tuple[int, int, int, str, tuple[str | int, ...]]]


def _resolve(host: str, port: int, seconds: float) -> Found:
    """What the system's resolver knows of a name; it has no limit of time itself, so it is asked in
    a thread that may be left behind."""
    answer: list[Found | OSError] = []

    def ask() -> None:
        try:
            found: Found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[assignment]
            answer.append(found)
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else OSError(f"no name: {error}"))

    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        raise TimeoutError(f"no answer to the name within {seconds:g} s")
    if isinstance(answer[0], OSError):
        raise answer[0]
    if not answer[0]:
        raise OSError("the name has no address")
    return answer[0]
