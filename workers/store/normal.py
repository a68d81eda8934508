"""Normal: what is normal for a version, as the audit chain tells it."""

from __future__ import annotations

from typing import Any

from redistill.files import sha256_of_bytes

__all__ = ["hashes_of_normal"]


def hashes_of_normal(
    profile: bytes | None,
    base_error: str | None,
    expected_error: str | None,
    *,
    provisional: bool,
) -> dict[str, Any]:
    """Hashes of what is stored in ``profiles``, for the entry that says who stored it; nothing
    where it is to be learned from traffic.

    Examples
    --------
    >>> hashes_of_normal(None, None, None, provisional=False)
    {}
    >>> told = hashes_of_normal(None, "{}", None, provisional=True)
    >>> sorted(told), told["profile_sha256"]
    (['base_error_sha256', 'expected_error_sha256', 'profile_sha256', 'provisional'], None)
    """
    if profile is None and base_error is None:
        return {}
    return {
        "profile_sha256": None if profile is None else sha256_of_bytes(profile),
        "base_error_sha256": None if base_error is None else sha256_of_bytes(base_error.encode()),
        "expected_error_sha256": None
        if expected_error is None
        else sha256_of_bytes(expected_error.encode()),
        "provisional": provisional,
    }
