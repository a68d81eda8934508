"""Hashes of prediction ids: whether a row is sampled, and what labels join on."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def id_hashes(ids: Sequence[str], salt: bytes) -> NDArray[np.uint64]:
    """Hash ids: the 8 bytes of BLAKE2b keyed with the salt, read as big-endian numbers.

    Uniform on [0, 2^64) whatever the ids are, so that ``hash < rate * 2^64`` is a uniform sample.
    Every row passes through here; .4 us a row, nearly all of it Python's call overhead.

    Parameters
    ----------
    ids
        ``n`` ids.
    salt
        The installation's secret, at most 64 bytes: without it nobody can choose ids that are (or
        are not) sampled.

    Returns
    -------
    numpy.ndarray
        ``(n,) uint64``

    References
    ----------
    Aumasson et al., "BLAKE2: simpler, smaller, fast as MD5", 2013 (RFC 7693).

    Examples
    --------
    >>> id_hashes(["a", "b"], b"salt").tolist()
    [3101220326410650856, 6442962923496186731]
    """
    copy = blake2b(digest_size=8, key=salt).copy  # the key is absorbed once
    digests: list[bytes] = []
    append = digests.append
    for text in ids:
        hasher = copy()
        hasher.update(text.encode())
        append(hasher.digest())
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def signed(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The same 64 bits as signed numbers, which is what SQL's BIGINT holds.

    Examples
    --------
    >>> import numpy as np
    >>> signed(np.array([1, 2**64 - 1], np.uint64)).tolist()
    [1, -1]
    """
    return hashes.view(np.int64)
