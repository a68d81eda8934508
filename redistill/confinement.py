"""Confinement of child processes that work with what others made: no network, no longer life than
their parent.

What the platform cannot do is told, and no error: a child then has its other limits only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["deny_network", "die_with_parent"]

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2

MACHINES: dict[str, tuple[int, tuple[int, ...]]] = {
    # socket, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, pidfd_getfd
    "x86_64": (0xC000_003E, (41, 101, 310, 311, 425, 438)),
    "aarch64": (0xC000_00B7, (198, 117, 270, 271, 425, 438)),
}
"""Name that the kernel has for a machine's calls (``AUDIT_ARCH_*`` in ``linux/audit.h``), and the
numbers of those by which a process gets a socket, its own or that of another process."""

X32 = 0x4000_0000
"""Calls of x86_64 with this bit are those of another table (``__X32_SYSCALL_BIT``)."""

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Operations of the packet filter that seccomp runs (``linux/bpf_common.h``)."""

REFUSE = 0x0005_0000 | 13
"""The call fails with ``EACCES`` (``SECCOMP_RET_ERRNO``)."""
ALLOW = 0x7FFF_0000

Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true and if false, operand."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process when the thread that started it ends, even one that is
    stopped; elsewhere a closed pipe or socket has to do.

    Parameters
    ----------
    parent
        Process id of the one that started it, which may be gone already: then this process ends
        here.
    """
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (AttributeError, OSError):
        return
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def deny_network() -> str | None:
    """Take from this process, and from all that it starts, the way to any network: from now on
    ``socket()`` fails with ``PermissionError``.

    It is a filter of system calls (seccomp), which needs no privilege and cannot be taken off
    again. Unix sockets are refused as well, as a database may listen on one; ``socketpair()`` and
    pipes work. Call it while the process has one thread: others that run keep their sockets.

    Returns
    -------
    str or None
        Why it cannot be done here; ``None``: it is done.

    References
    ----------
    https://docs.kernel.org/userspace-api/seccomp_filter.html
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux"):
        return f"{sys.platform} has no filter of system calls"
    if machine not in MACHINES:
        return f"the numbers of system calls are not known for {machine}"
    call: Any = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    program = _Program.of(_filter(*MACHINES[machine]))
    for name, words in (
        ("PR_SET_NO_NEW_PRIVS", (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
        ("PR_SET_SECCOMP", (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)),
    ):
        if call(*words) != 0:
            return f"the kernel refuses {name}: {os.strerror(ctypes.get_errno())}"
    return None


def _filter(machine: int, refused: Iterable[int]) -> list[Instruction]:
    """The filter: calls of another machine's table are all refused, of our own those named."""
    out = [
        (LOAD, 0, 0, 4),  # struct seccomp_data: the number at 0, the machine at 4
        (EQUAL, 1, 0, machine),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, REFUSE),
    ]
    for number in refused:
        out += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    return [*out, (RETURN, 0, 0, ALLOW)]


class _Instruction(ctypes.Structure):
    """``struct sock_filter``."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))

    @classmethod
    def of(cls, instructions: Sequence[Instruction]) -> _Program:
        """The program, in memory that lives as long as it does."""
        array = (_Instruction * len(instructions))(*(_Instruction(*i) for i in instructions))
        return cls(len(instructions), ctypes.cast(array, ctypes.POINTER(_Instruction)))
