"""For consumers: which model is promoted, verified, and how to get it."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.digests import RunningDigest
from cluster.store import Store, open_store
from fusion.errors import ManifestError
from fusion.manifest import FileEntry, ModelManifest, Pointer
from jobs.commit import read_pointer
from jobs.errors import NoCandidatesError, OutputError
from jobs.verify import check_run

READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Resolved:
    """A promoted model whose manifests fit together.

    Attributes:
        uri: of the model's folder.
        pointer: that names it.
        manifest: of the model.
    """

    uri: str
    pointer: Pointer
    manifest: ModelManifest


def resolve(output: str) -> Resolved:
    """The promoted model of an output, after its manifests and file sizes were checked.

    Raises:
        NoCandidatesError: nothing was promoted yet.
        ManifestError: what is there is not what was promoted.
    """
    store = open_store(output)
    seen = read_pointer(store)
    if seen is None:
        raise NoCandidatesError(
            f"nothing was promoted to {store.uri} yet",
            "metafuse run RECIPE makes and judges a model",
        )
    pointer = seen.pointer
    model = check_run(store, pointer.run, pointer.manifest_sha256)
    return Resolved(f"{store.uri}/{model.folder}", pointer, model.manifest)


def pull(output: str, folder: Path, *, on_file: Callable[[str, int, int], None]) -> Resolved:
    """Bring the promoted model to a disk, verified byte by byte, the manifest last.

    Files that are there already with the right digest are kept, so an interrupted pull goes on.

    Raises:
        ManifestError: bytes that do not have the digest of the manifest; nothing half is left.
        OutputError: the folder cannot be written.
    """
    found = resolve(output)
    store = open_store(found.uri)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, entry in enumerate(found.manifest.files):
            on_file(entry.name, number, len(found.manifest.files))
            _pull_file(store, entry, folder / entry.name)
        (folder / "manifest.json").write_bytes(store.read("manifest.json"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not error.filename:
            raise
        raise OutputError(f"{error.filename}: {error.strerror}", "choose another folder") from None
    return found


def is_whole(entry: FileEntry, blocks: Iterable[bytes | bytearray]) -> bool:
    """Whether the content of a file has the digests of its entry.

    Args:
        entry: of the manifest.
        blocks: the content in order; with units, every block but the last is one unit long.
    """
    sha256, crc = hashlib.sha256(), RunningDigest(with_sha256=False)
    for block in blocks:
        crc.update(block)
        if entry.sha256:
            sha256.update(hashlib.sha256(block).digest() if entry.unit_bytes else block)
    if crc.size != entry.size or (entry.crc64nvme and crc.crc64nvme != entry.crc64nvme):
        return False
    return not entry.sha256 or sha256.hexdigest() == entry.sha256


def block_bytes(entry: FileEntry) -> int:
    """Bytes of one block for `is_whole`."""
    return entry.unit_bytes or READ_BYTES


def _pull_file(store: Store, entry: FileEntry, target: Path) -> None:
    step = block_bytes(entry)
    if target.exists() and target.stat().st_size == entry.size:
        with target.open("rb") as there:
            if is_whole(entry, iter(lambda: there.read(step), b"")):
                return
    aside = target.with_name(f".{target.name}.part")
    with aside.open("wb") as stream:

        def blocks() -> Iterator[bytearray]:
            for start in range(0, entry.size, step):
                block = bytearray(min(step, entry.size - start))
                store.read_into(entry.name, memoryview(block), start=start)
                stream.write(block)
                yield block

        good = is_whole(entry, blocks())
        stream.flush()
        os.fsync(stream.fileno())
    if not good:
        aside.unlink()
        raise ManifestError(
            f"{store.uri}/{entry.name} does not have the digest of its manifest; it was not kept",
            "run the same command again; if it stays, the store is damaged",
        )
    aside.replace(target)
