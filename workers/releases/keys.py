"""Keys (ed25519) that sign releases, and the root metadata that clients are given to trust.

``keys/root.pem`` may be taken offline: it signs only the list of the other keys. The others are
needed where the repair worker runs. Private bytes never leave their files, and no ``repr`` shows
them. ``keys/root.json`` is the newest root document; those before it stand beside it
(``2.root.json``) and in the repository, where each leads clients from the one they know to the
next.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
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

__all__ = [
    "ONLINE",
    "ROOT_DAYS",
    "TOP_ROLES",
    "TRUST_FILE",
    "Keys",
    "documents_in",
    "encryption_of",
    "exist",
    "export",
    "init",
    "keep",
    "load",
    "load_key",
    "merged",
    "read_root",
    "renewed_root",
    "replaced",
    "root_signers",
    "state_of",
    "trust",
]

TRUST_FILE = "root.json"
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("targets", "snapshot", "timestamp", "models")
"""Keys that a repair worker needs; ``models`` signs every model's own role."""

ROOT_DAYS = 365


@dataclass(frozen=True, slots=True)
class Keys:
    """Loaded keys."""

    targets: CryptoSigner = field(repr=False)
    snapshot: CryptoSigner = field(repr=False)
    timestamp: CryptoSigner = field(repr=False)
    models: CryptoSigner = field(repr=False)
    roots: tuple[CryptoSigner, ...] = field(repr=False)
    """Root keys that are at hand."""
    documents: tuple[bytes, ...] = field(repr=False)
    """Root documents that are known here, verified, the newest last: public."""

    @property
    def trust(self) -> bytes:
        """The newest root document."""
        return self.documents[-1]

    @property
    def root(self) -> CryptoSigner | None:
        """A root key; ``None`` where fewer are at hand than it takes to sign for the root."""
        enough = len(self.roots) >= read_root(self.trust).signed.roles["root"].threshold
        return self.roots[0] if enough else None

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
    encryption = encryption_of(passphrase)
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
    documents = documents_in(folder)
    root = read_root(documents[-1]).signed
    signers = {
        role: _signer(folder, role, root, passphrase)
        for role in ("targets", "snapshot", "timestamp")
    }
    return Keys(
        targets=signers["targets"],
        snapshot=signers["snapshot"],
        timestamp=signers["timestamp"],
        models=load_key(folder / "models.pem", passphrase),
        roots=root_signers(folder, root, passphrase),
        documents=documents,
    )


def state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a key or a root document does: name, time and size of each file."""
    found = []
    for path in sorted((*folder.glob("*.pem*"), *folder.glob("*root.json"))):
        try:
            info = path.stat()
        except OSError:  # gone meanwhile
            continue
        found.append((path.name, info.st_mtime_ns, info.st_size))
    return tuple(found)


def root_signers(folder: Path, root: Root, passphrase: str | None) -> tuple[CryptoSigner, ...]:
    """The root keys of a root document that are at hand.

    Raises
    ------
    KeysError
        One cannot be read.
    """
    paths = sorted((*folder.glob("root*.pem"), *folder.glob("root*.pem.next")))
    found = {s.public_key.keyid: s for s in (load_key(path, passphrase) for path in paths)}
    return tuple(found[keyid] for keyid in root.roles["root"].keyids if keyid in found)


def documents_in(folder: Path) -> tuple[bytes, ...]:
    """All root documents of a keys folder, the newest last.

    Raises
    ------
    KeysError
        There is none, or one does not follow the one before.
    """
    newest = trust(folder)
    older = [path.read_bytes() for path in folder.glob("[0-9]*.root.json")]
    try:
        return merged(older, [newest])
    except KeysError as error:
        raise KeysError(
            f"{folder / TRUST_FILE} is no root metadata, or does not follow those beside it:"
            f" {error}"
        ) from error


def keep(folder: Path, documents: Sequence[bytes]) -> None:
    """Have the keys folder know root documents that were found in the repository.

    Raises
    ------
    KeysError
        They cannot be written.
    """
    try:
        for document in documents:
            path = folder / f"{read_root(document).signed.version}.{TRUST_FILE}"
            if len(documents) > 1 and not path.exists():
                write(path, document, mode=0o644)
        if trust(folder) != documents[-1]:
            write(folder / TRUST_FILE, documents[-1], mode=0o644)
    except OSError as error:
        raise KeysError(
            f"the root metadata cannot be written to {folder}: {error.strerror}"
        ) from error


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


def renewed_root(document: bytes, *signers: CryptoSigner, expires: datetime) -> bytes:
    """The next version of a root document: the same keys, valid for longer.

    Raises
    ------
    KeysError
        The signers are not the root keys that the document names, or too few of them.
    """
    root = read_root(document).signed
    root.version += 1
    root.expires = _whole_seconds(expires)
    data = signed_root(root, *signers)
    try:
        merged([document], [data])
    except KeysError as error:
        raise KeysError(f"root.pem did not sign {TRUST_FILE}: {error}") from error
    return data


def read_root(document: bytes) -> Metadata[Root]:
    """A root document; its signatures are looked at by :func:`merged`.

    Raises
    ------
    KeysError
        It is none.
    """
    try:
        metadata = Metadata[Root].from_bytes(document)
    except Exception as error:  # python-tuf raises a class for each layer of the format
        raise KeysError(f"this is no root metadata: {error}") from error
    if not isinstance(metadata.signed, Root):
        raise KeysError("this is no root metadata")
    return metadata


def merged(*groups: Sequence[bytes]) -> tuple[bytes, ...]:
    """Root documents of several places, in the order of their versions, each verified: by its own
    root keys and by those of the one before.

    Raises
    ------
    KeysError
        One is missing between two, or is not signed by them, or two are of the same version.
    """
    by_version: dict[int, bytes] = {}
    for document in (d for group in groups for d in group):
        version = read_root(document).signed.version
        if by_version.setdefault(version, document) != document:
            raise KeysError(f"there are two root documents of version {version}")
    before: Metadata[Root] | None = None
    for version, document in sorted(by_version.items()):
        metadata = read_root(document)
        try:
            if before is not None:
                if version != before.signed.version + 1:
                    raise KeysError(f"root document {before.signed.version + 1} is missing")
                before.verify_delegate("root", metadata)
            metadata.verify_delegate("root", metadata)
        except (RepositoryError, ValueError) as error:
            raise KeysError(f"root document {version} does not follow: {error}") from error
        before = metadata
    return tuple(document for _, document in sorted(by_version.items()))


def replaced(old: bytes, new: bytes) -> list[str]:
    """Roles that have other keys in a later root document.

    Raises
    ------
    KeysError
        One is no root document.
    """
    before, after = read_root(old).signed.roles, read_root(new).signed.roles
    return [role for role in TOP_ROLES if set(before[role].keyids) != set(after[role].keyids)]


def encryption_of(passphrase: str | None) -> KeySerializationEncryption:
    """How private keys are stored."""
    return BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()


def _signer(folder: Path, role: str, root: Root, passphrase: str | None) -> CryptoSigner:
    """The key of a role that the root names; one that a rotation left under ``.next`` counts
    too."""
    keyids = root.roles[role].keyids
    waiting = folder / f"{role}.pem.next"
    for path in (folder / f"{role}.pem", waiting):
        if path != waiting or path.exists():
            signer = load_key(path, passphrase)
            if signer.public_key.keyid in keyids:
                return signer
    raise KeysError(
        f"{folder}: {role}.pem is not the key that {TRUST_FILE} names: bring the one that it names"
        f" from a backup, or replace it with `redistill keys rotate {role}`"
    )


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def load_key(path: Path, passphrase: str | None) -> CryptoSigner:
    """A private key.

    Raises
    ------
    KeysError
        It is missing, others may read it, or the passphrase is wrong; the message says which.
    """
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
