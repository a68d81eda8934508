"""Keys (ed25519) that sign releases, and the root metadata that clients are given to trust.

``keys/root.pem`` may be taken offline: it signs only the list of the other keys. The others are
needed where the repair worker runs. Private bytes never leave their files, and no ``repr`` shows
them.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from redistill.files import PRIVATE, write
from redistill.modes import as_the_user_has_it, private_folder
from redistill.workers.errors import KeysError, UsageError

__all__ = ["Keys", "exist", "export", "init", "load", "renewed_root", "trust"]

TRUST_FILE = "root.json"
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("targets", "snapshot", "timestamp", "models")
"""Keys that a repair worker needs; ``models`` signs every model's own role."""

ROOT_DAYS = 365


@dataclass(frozen=True, slots=True)
class Keys:
    """Loaded keys. ``root`` is ``None`` where that key is kept offline."""

    targets: CryptoSigner = field(repr=False)
    snapshot: CryptoSigner = field(repr=False)
    timestamp: CryptoSigner = field(repr=False)
    models: CryptoSigner = field(repr=False)
    root: CryptoSigner | None = field(repr=False)
    trust: bytes = field(repr=False)
    """``root.json``: public."""

    def signer(self, role: str) -> CryptoSigner:
        """The key that signs a role; every ``m-NAME`` is signed by ``models``.

        Raises
        ------
        KeysError
            It is the root's, and that is offline.
        """
        signer: CryptoSigner | None = getattr(self, "models" if role.startswith("m-") else role)
        if signer is None:
            raise KeysError(
                f"the {role} key is offline: bring keys/{role}.pem back to sign with it"
            )
        return signer


def init(folder: Path, *, passphrase: str | None, now: datetime) -> Path:
    """Make all keys and the root metadata.

    Parameters
    ----------
    folder
        Made with mode 0700 if it is not there; files get mode 0600.
    passphrase
        Encrypts the private keys; ``None``: they are protected by their mode only.
    now
        When the root metadata begin to be valid (UTC), for a year.

    Returns
    -------
    pathlib.Path
        ``root.json``, for clients.

    Raises
    ------
    UsageError
        There are keys already: new ones would lock out every client.
    KeysError
        A file could not be written.
    """
    document_path = folder / TRUST_FILE
    if document_path.exists():
        raise UsageError(
            f"{folder} holds keys already, and clients trust them; `redistill keys export` shows "
            "the public part"
        )
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    private = {role: Ed25519PrivateKey.generate() for role in (*TOP_ROLES, "models")}
    signers = {role: CryptoSigner(key) for role, key in private.items()}
    root = Root(expires=_whole_seconds(now) + timedelta(days=ROOT_DAYS), consistent_snapshot=True)
    for role in TOP_ROLES:
        root.add_key(signers[role].public_key, role)
    document = signed_root(root, signers["root"])
    try:
        private_folder(folder)
        for role, key in private.items():
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
            write(folder / f"{role}.pem", pem, mode=PRIVATE)
        write(document_path, document, mode=0o644)  # last: without it, init was not finished
    except OSError as error:
        raise KeysError(f"the keys cannot be written to {folder}: {error.strerror}") from error
    return document_path


def load(folder: Path, *, passphrase: str | None) -> Keys:
    """Read the keys that a repair worker needs.

    Raises
    ------
    KeysError
        They are missing, others may read them, or the passphrase is wrong; the message says which.
    """
    document = trust(folder)
    try:
        root = Metadata[Root].from_bytes(document).signed
    except Exception as error:  # python-tuf raises a class for each layer of the format
        raise KeysError(f"{folder / TRUST_FILE} is no root metadata: {error}") from error
    if not isinstance(root, Root):
        raise KeysError(f"{folder / TRUST_FILE} is no root metadata")
    signers = {role: _load_key(folder / f"{role}.pem", passphrase) for role in ONLINE}
    for role in ("targets", "snapshot", "timestamp"):
        if signers[role].public_key.keyid not in root.roles[role].keyids:
            raise KeysError(f"{folder}: {role}.pem is not the key that {TRUST_FILE} names")
    offline = not (folder / "root.pem").exists()
    return Keys(
        targets=signers["targets"],
        snapshot=signers["snapshot"],
        timestamp=signers["timestamp"],
        models=signers["models"],
        root=None if offline else _load_key(folder / "root.pem", passphrase),
        trust=document,
    )


def exist(folder: Path) -> bool:
    """Whether ``init`` has been run for this folder."""
    return (folder / TRUST_FILE).exists()


def trust(folder: Path) -> bytes:
    """The public root metadata.

    Raises
    ------
    KeysError
        There are no keys.
    """
    try:
        return (folder / TRUST_FILE).read_bytes()
    except OSError as error:
        raise KeysError(f"no signing keys in {folder}: run `redistill keys init`") from error


def export(folder: Path, destination: Path) -> None:
    """Copy the public root metadata to where a client can take it from.

    Raises
    ------
    KeysError
        There are none, or the destination cannot be written.
    """
    data = trust(folder)
    try:
        with as_the_user_has_it():
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(data)
    except OSError as error:
        raise KeysError(f"{destination} cannot be written: {error.strerror}") from error


def signed_root(root: Root, *signers: CryptoSigner) -> bytes:
    """A root metadata document, signed by all signers (a rotation needs the old and the new)."""
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer())


def renewed_root(document: bytes, signer: CryptoSigner, *, expires: datetime) -> bytes:
    """The next version of a root document: the same keys, valid for longer.

    Raises
    ------
    KeysError
        The signer is not the root key that the document names.
    """
    old = Metadata[Root].from_bytes(document)
    root = old.signed
    root.version += 1
    root.expires = _whole_seconds(expires)
    data = signed_root(root, signer)
    try:
        old.verify_delegate("root", Metadata[Root].from_bytes(data))
    except (RepositoryError, ValueError) as error:
        raise KeysError(f"root.pem did not sign {TRUST_FILE}: {error}") from error
    return data


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _load_key(path: Path, passphrase: str | None) -> CryptoSigner:
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise KeysError(f"the signing key {path} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeysError(f"others may read the signing key {path}: chmod 600 it")
    encrypted = b"ENCRYPTED" in data
    if encrypted and not passphrase:
        raise KeysError(f"{path} is encrypted: set REDISTILL_KEY_PASSPHRASE")
    try:
        key = load_pem_private_key(data, passphrase.encode() if encrypted and passphrase else None)
    except (ValueError, TypeError) as error:
        why = "the passphrase is wrong" if encrypted else "it is no PEM key"
        raise KeysError(f"{path} cannot be used: {why}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{path} is no ed25519 key")
    return CryptoSigner(key)
