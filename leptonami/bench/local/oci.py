"""An OCI image layout in a folder, and its layers: written once, with nothing in them that changes by itself.

The format is that of opencontainers/image-spec (image-layout.md, layer.md), version 1.0.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

__all__ = ["HOST", "Built", "File", "Layout", "architecture"]

HOST = "registry.leptonami.test"
"""The registry's name in references. `.test` is reserved (RFC 6761): it is nobody's, and hosts.toml leads it to us."""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF = "org.opencontainers.image.ref.name"
SUFFIX = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}


@dataclass(frozen=True)
class Built:
    """An image in the layout.

    Attributes
    ----------
    ref
        Its whole reference.
    digest
        Of its manifest.
    layers
        Digests of its layers.
    packed, unpacked, files
        Bytes to pull, bytes of the layers' archives, number of files.
    """

    ref: str
    digest: str
    layers: tuple[str, ...]
    packed: int
    unpacked: int
    files: int


@dataclass(frozen=True)
class File:
    """A file of a layer: its content, or the file of this machine that has it."""

    path: str
    content: bytes | Path
    mode: int = 0o644

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


class Hashed(io.RawIOBase):
    """A file that counts and digests what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Write all of it."""
        self.sha256.update(data)
        self.size += len(data)
        self.file.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return f"sha256:{self.sha256.hexdigest()}"


class Layout:
    """An OCI image layout in a folder (opencontainers/image-spec, image-layout.md)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def path(self, digest: str) -> Path:
        """Give the file of a blob, which need not be there."""
        algorithm, _, value = digest.partition(":")
        return self.folder / "blobs" / algorithm / value

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Give the descriptors of the index by `name:tag`."""
        try:
            index = json.loads((self.folder / "index.json").read_text())
        except FileNotFoundError:
            return {}
        return {each["annotations"][REF]: each for each in index["manifests"]}

    def put(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Store a small blob and give its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.path(digest).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def layer(self, files: Iterable[File], compression: str) -> tuple[dict[str, Any], str, int, int]:
        """Write a layer; give its descriptor, the digest of the bare archive, its size, and the number of files."""
        part = self.folder / "layer.part"
        count = 0
        with part.open("wb") as raw:
            packed = Hashed(raw)
            with _compressor(packed, compression) as squeezed:
                bare = Hashed(squeezed)
                with tarfile.open(fileobj=cast("IO[bytes]", bare), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    for file in _with_folders(files):
                        _add(archive, file)
                        count += isinstance(file, File)
        part.rename(self.path(packed.digest))
        descriptor = {"mediaType": LAYER + SUFFIX[compression], "digest": packed.digest, "size": packed.size}
        return descriptor, bare.digest, bare.size, count

    def add(self, name: str, config: dict[str, Any], layers: list[tuple[dict[str, Any], str, int, int]]) -> Built:
        """Write config and manifest of an image `name:tag`, and name it in the index."""
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff, _, _ in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(json.dumps(config).encode(), CONFIG),
            "layers": [descriptor for descriptor, _, _, _ in layers],
        }
        index = self.manifests()
        index[name] = {**self.put(json.dumps(manifest).encode(), MANIFEST), "annotations": {REF: name}}
        whole = {"schemaVersion": 2, "manifests": list(index.values())}
        part = self.folder / "index.json.part"
        part.write_text(json.dumps(whole, indent=1))
        part.rename(self.folder / "index.json")
        return Built(
            ref=f"{HOST}/{name}",
            digest=str(index[name]["digest"]),
            layers=tuple(str(descriptor["digest"]) for descriptor, _, _, _ in layers),
            packed=sum(int(descriptor["size"]) for descriptor, _, _, _ in layers),
            unpacked=sum(size for _, _, size, _ in layers),
            files=sum(count for _, _, _, count in layers),
        )


def architecture() -> str:
    """Give the machine's architecture as OCI has it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _compressor(file: Hashed, compression: str) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).stream_writer(cast("IO[bytes]", file), closefd=False)
    return contextlib.nullcontext(file)


def _with_folders(files: Iterable[File]) -> Iterator[File | str]:
    """Put each folder before what is in it."""
    seen: set[str] = set()
    for file in files:
        for parent in reversed(PurePosixPath(file.path).parents):
            if str(parent) not in (".", *seen):
                seen.add(str(parent))
                yield str(parent)
        yield file


def _add(archive: tarfile.TarFile, file: File | str) -> None:
    """Add a file or folder. Times and owners are fixed: they would change the digest."""
    if isinstance(file, str):
        entry = tarfile.TarInfo(file)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        return
    entry = tarfile.TarInfo(file.path)
    entry.mode = file.mode
    if isinstance(file.content, bytes):
        entry.size = len(file.content)
        archive.addfile(entry, io.BytesIO(file.content))
        return
    with file.content.open("rb") as source:
        entry.size = os.fstat(source.fileno()).st_size
        archive.addfile(entry, source)
