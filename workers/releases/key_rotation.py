"""Rotation of signing keys: another key for a role, and the root document that says so.

A new root document is a draft (``next.root.json``) until enough root keys have signed it: those of
the document before, and its own. They may lie on other machines: the draft travels, no key does.
What was finished counts from the moment in which ``root.json`` is replaced; the repository writer
sees that, signs anew what the old key signed, and puts the document where clients look for it, who
follow from the one that they know.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from redistill.files import PRIVATE, write
from redistill.workers.errors import KeysError, UsageError
from redistill.workers.releases import keys as keyring

__all__ = ["DRAFT", "ROLES", "Signatures", "abandon", "rotate", "sign"]

ROLES = (*keyring.TOP_ROLES, "models")
DRAFT = "next.root.json"
NEXT = ".next"
MOST_ROOT_KEYS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatures:
    """How far a new root document is."""

    version: int
    """Of the document; 0: none was needed."""
    replaced: tuple[str, ...]
    """Roles that get other keys by it."""
    missing: tuple[str, ...] = ()
    """What it still lacks, a phrase each; empty: it is signed."""
    draft: Path | None = None
    """Where it waits for signatures; ``None``: it counts."""


def rotate(
    folder: Path,
    role: str,
    *,
    passphrase: str | None,
    now: datetime,
    root_keys: int = 1,
    threshold: int = 1,
) -> Signatures:
    """Give a role another key; called again, go on where signatures were missing.

    Parameters
    ----------
    role
        One of ``ROLES``.
    now
        The new root document is valid for a year from then (UTC).
    root_keys, threshold
        Of the role ``root``: how many keys it gets, and how many of them have to sign.

    Raises
    ------
    UsageError
        There is no such role, the numbers make no sense, or another rotation is under way.
    KeysError
        Keys or documents are missing, or cannot be written.
    """
    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}: {', '.join(ROLES)}")
    if not 1 <= threshold <= root_keys <= MOST_ROOT_KEYS:
        raise UsageError(
            f"{threshold} of {root_keys} root keys: 1 to {MOST_ROOT_KEYS} of at most as many"
        )
    if role != "root" and root_keys != 1:
        raise UsageError("only the role root has more keys than one")
    try:
        return _rotate(folder, role, passphrase, now, root_keys, threshold)
    except OSError as error:
        raise KeysError(f"the keys in {folder} cannot be replaced: {error.strerror}") from error


def sign(draft: Path, folder: Path, *, passphrase: str | None) -> Signatures:
    """Add the signatures of the root keys that are here to a draft, in place.

    Parameters
    ----------
    folder
        Holds ``root.json`` as it was before, and root keys, old or new.

    Raises
    ------
    KeysError
        The draft is no next root document of the one that is here, or no key of it is here.
    """
    try:
        data = draft.read_bytes()
    except OSError as error:
        raise KeysError(f"{draft} cannot be read: {error.strerror}") from error
    before, after = keyring.documents_in(folder)[-1], keyring.read_root(data)
    version = keyring.read_root(before).signed.version
    if after.signed.version != version + 1:
        raise KeysError(
            f"{draft} is version {after.signed.version} of the root document, here is version"
            f" {version}: bring the newest root.json (`redistill keys export`)"
        )
    if len(keyring.replaced(before, data)) > 1:  # each rotation replaces one
        raise KeysError(f"{draft} does not follow the root.json in {folder}: it is of other keys")
    if not _sign(after, before, folder, passphrase):
        raise KeysError(f"no root key is in {folder} of those that {draft.name} needs")
    try:
        write(draft, after.to_bytes(JSONSerializer()), mode=0o644)
    except OSError as error:
        raise KeysError(f"{draft} cannot be written: {error.strerror}") from error
    return _state(before, after, draft)


def abandon(folder: Path) -> bool:
    """Take back a rotation that lacks signatures; false: there is none."""
    if not (folder / DRAFT).exists():
        return False
    (folder / DRAFT).unlink()
    for path in folder.glob(f"*.pem{NEXT}"):
        path.unlink()
    return True


def _rotate(
    folder: Path, role: str, passphrase: str | None, now: datetime, root_keys: int, threshold: int
) -> Signatures:
    before = keyring.documents_in(folder)[-1]
    if role == "models":
        write(folder / "models.pem", _pem(Ed25519PrivateKey.generate(), passphrase), mode=PRIVATE)
        return Signatures(version=0, replaced=("models",))
    draft = folder / DRAFT
    if draft.exists():
        after = keyring.read_root(draft.read_bytes())
        under_way = keyring.replaced(before, draft.read_bytes())
        if under_way != [role]:
            raise UsageError(
                f"a rotation of {', '.join(under_way) or 'nothing'} is under way in {draft}: finish"
                " it, or take it back with --abandon"
            )
    else:
        _settle(folder, keyring.read_root(before).signed, passphrase)
        names = [role, *(f"root-{n}" for n in range(2, root_keys + 1))]
        private = {name: Ed25519PrivateKey.generate() for name in names}
        for name, key in private.items():
            write(folder / f"{name}.pem{NEXT}", _pem(key, passphrase), mode=PRIVATE)
        after = _successor(
            before, role, [CryptoSigner(k) for k in private.values()], threshold, now
        )
    _sign(after, before, folder, passphrase)
    data = after.to_bytes(JSONSerializer())
    state = _state(before, after, draft)
    if state.missing:
        write(draft, data, mode=0o644)
        return state
    keyring.keep(folder, keyring.merged(keyring.documents_in(folder), [data]))
    _settle(folder, after.signed, passphrase)
    draft.unlink(missing_ok=True)
    return Signatures(version=state.version, replaced=state.replaced)


def _successor(
    before: bytes, role: str, signers: Sequence[CryptoSigner], threshold: int, now: datetime
) -> Metadata[Root]:
    root = copy.deepcopy(keyring.read_root(before).signed)
    root.version += 1
    root.expires = now.replace(microsecond=0) + timedelta(days=keyring.ROOT_DAYS)
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for signer in signers:
        root.add_key(signer.public_key, role)
    root.roles[role].threshold = threshold
    return Metadata(root)


def _sign(after: Metadata[Root], before: bytes, folder: Path, passphrase: str | None) -> bool:
    """Sign with every root key that is here, old and new; whether there was one."""
    roots = (keyring.read_root(before).signed, after.signed)
    found = {
        s.public_key.keyid: s for r in roots for s in keyring.root_signers(folder, r, passphrase)
    }
    for signer in found.values():
        after.sign(signer, append=True)
    return bool(found)


def _state(before: bytes, after: Metadata[Root], draft: Path) -> Signatures:
    data, missing = after.to_bytes(JSONSerializer()), []
    again = keyring.read_root(data)
    for whose, root in (("the old", keyring.read_root(before).signed), ("the new", again.signed)):
        try:
            result = root.get_verification_result("root", again.signed_bytes, again.signatures)
        except (RepositoryError, ValueError) as error:
            raise KeysError(f"{draft} is no root document: {error}") from error
        if not result.verified:
            lack = result.threshold - len(result.signed)
            missing.append(f"{lack} of {whose} root keys")
    return Signatures(
        version=again.signed.version,
        replaced=tuple(keyring.replaced(before, data)),
        missing=tuple(dict.fromkeys(missing)),
        draft=draft,
    )


def _settle(folder: Path, root: Root, passphrase: str | None) -> None:
    """After a root document counts: its new keys take their names, replaced root keys go."""
    for path in sorted(folder.glob(f"*.pem{NEXT}")):
        role = path.name.partition(".")[0].partition("-")[0]
        if _names(root, role, path, passphrase):
            os.replace(path, path.with_suffix(""))
    for path in sorted(folder.glob("root*.pem")):
        if not _names(root, "root", path, passphrase):
            path.unlink()


def _names(root: Root, role: str, path: Path, passphrase: str | None) -> bool:
    return keyring.load_key(path, passphrase).public_key.keyid in root.roles[role].keyids


def _pem(key: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    encryption = keyring.encryption_of(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
