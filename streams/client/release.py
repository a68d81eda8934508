"""Release: files named by their SHA-256, a manifest of them, and a pointer to a manifest.

Services read these formats, workers write them. Only :func:`verify` does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from redistill.decodable import decodable
from redistill.files import sha256_of
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.block import Schema
from redistill.streams.wire.events import ModelName, Sha256, Share, VersionName

__all__ = [
    "CLIENT_FILES",
    "FALLBACK",
    "GOLDEN_FILE",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "POINTER_FILE",
    "FileEntry",
    "InputLayout",
    "KnownRelease",
    "Manifest",
    "OutputKind",
    "PointerFile",
    "ReleaseKind",
    "target_name",
    "verify",
]

FORMAT = 1
"""Version of both formats below; a newer one is refused, an older one stays readable."""

MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
MANIFEST_FILE = "manifest.json"
POINTER_FILE = "pointer.json"
FALLBACK = "fallback"
"""Version of a declared fallback that is no known release: nothing of it is monitored."""

CLIENT_FILES = (MODEL_FILE, GOLDEN_FILE)
"""What a service downloads; workers also keep the report, the training folder and profile rows."""

_FILE_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,79}/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")

ReleaseKind = Literal["baseline", "added", "repaired", "scheduled"]
OutputKind = Literal["logits", "probabilities", "value"]


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """A file of a release."""

    sha256: Sha256
    bytes: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputLayout:
    """How the graph takes its features.

    ``matrix``: one float32 input of shape ``(n, F)``. ``columns``: one float32 input per feature,
    named in ``names`` in the order of the schema, of shape ``(n, 1)`` or ``(n,)`` (``rank``).
    """

    kind: Literal["matrix", "columns"]
    names: tuple[str, ...]
    rank: Literal[1, 2] = 2


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """``manifest.json``: all that a service needs to know of a release before it loads it."""

    format: int = FORMAT
    model: ModelName
    version: VersionName
    kind: ReleaseKind
    sha256: Sha256
    """Of ``model.onnx``."""
    files: dict[str, FileEntry]
    """Every file of the release by its name inside the release."""
    schema: Schema
    task: Literal["classification", "regression"] = "classification"
    input: InputLayout
    output: str
    """Name of the output that is read: ``(n, classes)``; ``(n,)`` or ``(n, 1)`` in a regression."""
    output_kind: OutputKind
    golden_tolerance: Annotated[float, Meta(ge=0)]
    """Largest absolute difference of an output on the golden inputs; labels must agree anyway."""
    cpu_flags: tuple[str, ...] = ()
    """Of the machine that judged it: int8 rounds differently on others."""
    policy_sha256: Sha256 | None = None
    """Hash of the limits under which its gates were judged."""
    predecessor: VersionName | None = None
    """What served when it was made."""
    job_id: str | None = None
    created_at: datetime

    def to_json(self) -> bytes:
        """Canonical JSON: the same manifest gives the same bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises
        ------
        ReleaseError
            It is no manifest, contradicts itself, or is of a newer format.
        """
        manifest = _decode(data, cls, "release manifest")
        names = [n for n in manifest.files if not _FILE_NAME.fullmatch(n) or ".." in n]
        if names:
            raise ReleaseError(f"release manifest: file names that are not allowed: {names}")
        entry = manifest.files.get(MODEL_FILE)
        if entry is None or entry.sha256 != manifest.sha256:
            raise ReleaseError(f"release manifest: {MODEL_FILE} is missing or not the one it names")
        if manifest.task == "classification" and len(manifest.schema.classes) < 2:
            raise ReleaseError("release manifest: a classification needs at least two classes")
        if manifest.input.kind == "columns" and len(manifest.input.names) != len(
            manifest.schema.features
        ):
            raise ReleaseError("release manifest: one input per feature was expected")
        return manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRelease:
    """A release that was served once and can still be loaded."""

    sha256: Sha256
    """Of ``model.onnx``: a service's fallback is recognised by it."""
    manifest_sha256: Sha256


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class PointerFile:
    """``NAME/pointer.json``, signed by the model's role: services obey this and nothing else."""

    format: int = FORMAT
    model: ModelName
    stable: VersionName
    manifest_sha256: Sha256
    sha256: Sha256
    """Of the ``model.onnx`` of ``stable``."""
    epoch: Annotated[int, Meta(ge=1)]
    """One more with each change of the pointer; never less."""
    canary: VersionName | None = None
    share: Share = 0.0
    reason: str = ""
    moved_at: datetime
    known: dict[VersionName, KnownRelease] = field(default_factory=dict)
    """Published releases that are still in the repository, ``stable`` among them."""

    def to_json(self) -> bytes:
        """Canonical JSON: the same pointer gives the same bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, data: bytes) -> PointerFile:
        """Read what ``to_json`` wrote; raises as :meth:`Manifest.from_json` does."""
        return _decode(data, cls, "pointer")


_T = TypeVar("_T")


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format > FORMAT:
            raise ReleaseError(
                f"{what} has format {head.format}, this program reads up to {FORMAT}: "
                "upgrade redistill"
            )
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ReleaseError(f"{what} cannot be read: {error}") from error


@decodable
class _Head(msgspec.Struct):
    format: int


def target_name(model: str, name: str, sha256: str) -> str:
    """Path of a release's file in the repository: flat, because TUF's ``*`` does not cross ``/``.

    Examples
    --------
    >>> target_name("credit", "training/weights.safetensors", "ab" * 32)[:14]
    'credit/abababa'
    >>> target_name("credit", "model.onnx", "ab" * 32)[-9:]
    'abab.onnx'
    """
    suffix = Path(name).suffix or ".bin"
    return f"{model}/{sha256}{suffix}"


def verify(folder: Path, manifest: Manifest, *, names: Iterable[str] | None = None) -> None:
    """Check that files are there and are the ones that the manifest lists.

    Parameters
    ----------
    folder
        Holds the files under their names inside the release.
    manifest
        What they should be.
    names
        Which files to check; ``None``: all.

    Raises
    ------
    ReleaseError
        A file is missing, is a link, or has other bytes; the message names it.
    """
    for name in manifest.files if names is None else names:
        entry = manifest.files.get(name)
        if entry is None:
            raise ReleaseError(f"release {manifest.version} has no file {name}")
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise ReleaseError(f"release {manifest.version}: {name} is missing in {folder}")
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            raise ReleaseError(
                f"release {manifest.version}: {name} is not the file that was signed"
            )
