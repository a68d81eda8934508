"""Signed view: the repository as a client sees it, through python-tuf, from the trust file on.

A client also asks whether metadata have expired. That is no matter of history: an installation that
was shut down for a month lost and forged nothing, so time is left out here, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

from redistill.streams.client.release import POINTER_FILE
from redistill.streams.client.transport import FolderFetcher
from redistill.times import microseconds
from redistill.workers.errors import KeysError
from redistill.workers.releases import keys
from redistill.workers.releases.anchor import FIELD, Anchor
from redistill.workers.releases.release_files import RepositoryLayout

__all__ = ["MODEL", "SignedView", "look"]

LONG_AGO = datetime.min.replace(tzinfo=UTC)
MOST_BYTES = 20_000_000
"""As clients have it."""
MODEL = "m-"
"""Start of the name of a model's role."""


@dataclass(kw_only=True, slots=True)
class SignedView:
    """What a client reads."""

    problem: str | None = None
    """Why it would refuse the repository; ``None``: it would not."""
    keys_missing: tuple[str, ...] = ()
    """Of the files with which it is signed."""
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Version and expiry (microseconds since 1970) by role."""
    anchor: Anchor | None = None
    """Where the audit chain stood when the timestamp was signed."""
    root: bytes | None = None
    """The newest root document."""
    pointers: dict[str, bytes] = field(default_factory=dict)
    """``pointer.json`` by model."""
    files: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)
    """By model, SHA-256 and size of every file that it may fetch, by its path."""

    @property
    def snapshot(self) -> int:
        """Version of the snapshot; 0: there is none."""
        return self.roles.get("snapshot", (0, 0))[0]


class _Timeless(Updater):
    """python-tuf's client, for which nothing expires."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._trusted_set.reference_time = LONG_AGO

    def trusted(self) -> Mapping[str, Any]:
        """What was verified so far, by role."""
        return self._trusted_set

    def model(self, role: str) -> Any:
        """The verified metadata of a model."""
        return self._load_targets(role, "targets")


def look(layout: RepositoryLayout) -> SignedView:
    """Read the repository with the trust file that is kept with the keys."""
    view = SignedView(keys_missing=_missing(layout))
    try:
        trust = keys.trust(layout.keys)
    except KeysError as error:
        view.problem = str(error)
        return view
    with TemporaryDirectory(prefix="redistill-history-") as cache:
        try:
            _read(layout, trust, cache, view)
        except (RepositoryError, DownloadError) as error:
            view.problem = f"{type(error).__name__}: {error}"
    return view


def _missing(layout: RepositoryLayout) -> tuple[str, ...]:
    wanted = (keys.TRUST_FILE, *(f"{role}.pem" for role in keys.ONLINE))
    return tuple(name for name in wanted if not (layout.keys / name).is_file())


def _read(layout: RepositoryLayout, trust: bytes, cache: str, view: SignedView) -> None:
    base = layout.repository.absolute().as_uri()
    config = UpdaterConfig(
        prefix_targets_with_hash=False,
        snapshot_max_length=MOST_BYTES,
        targets_max_length=MOST_BYTES,
    )
    fetcher = FolderFetcher()
    client = _Timeless(
        str(Path(cache) / "metadata"),
        f"{base}/metadata/",
        fetcher=fetcher,
        config=config,
        bootstrap=trust,
    )
    client.refresh()
    number = client.trusted()["root"].version
    newest = layout.metadata / f"{number}.root.json"
    view.root = newest.read_bytes() if newest.is_file() else trust
    for name in ("root", "timestamp", "snapshot", "targets"):
        _note(view, name, client.trusted()[name])
    view.anchor = Anchor.of(client.trusted()["timestamp"].unrecognized_fields.get(FIELD))
    delegations = client.trusted()["targets"].delegations
    for role in sorted(delegations.roles) if delegations is not None else ():
        signed = client.model(role)
        _note(view, role, signed)
        model = role.removeprefix(MODEL)
        files = dict(signed.targets)
        info = files.pop(f"{model}/{POINTER_FILE}", None)
        view.files[model] = {p: (f.hashes["sha256"], f.length) for p, f in files.items()}
        if info is not None:
            name = f"{model}/{info.hashes['sha256']}.{POINTER_FILE}"
            data = fetcher.download_bytes(f"{base}/targets/{name}", info.length)
            info.verify_length_and_hashes(data)
            view.pointers[model] = data


def _note(view: SignedView, role: str, signed: Any) -> None:
    view.roles[role] = int(signed.version), microseconds(signed.expires)
