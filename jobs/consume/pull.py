"""The promoted model on a disk: verified byte by byte, and shown whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.errors import ManifestError
from fusion.manifests.model import FileEntry, ModelManifest
from jobs.console.figures import Figures, Tell, tell_nobody
from jobs.consume.resolve import Resolved, block_bytes, is_whole, resolve
from jobs.errors import OutputError
from jobs.outputs.keys import MODEL_MANIFEST

# Files wait in this folder until all of them are there and verified.
STAGING = ".metafuse-pull"
# In it from the first file that leaves it until the last has.
MOVING = "moving"


def pull(output: str, folder: Path, *, tell: Tell = tell_nobody) -> Resolved:
    """Bring the promoted model to a folder, verified; what is there of an earlier pull is replaced.

    Files come to a folder inside and are moved into place once all are verified, the manifest last:
    a pull that ends early changes nothing that was there, and the same command continues it.

    Args:
        output: path or URI of the output.
        folder: folder that is empty, not there yet, or holds an earlier pull of ours.
        tell: called with (files done, files, figures) as blocks of files come.

    Raises:
        NoCandidatesError: nothing was promoted yet.
        ManifestError: bytes that do not have the digest of the manifest.
        OutputError: the folder holds something else, or cannot be written.
    """
    found = resolve(output)
    store = open_store(found.uri)
    try:
        earlier = _check_folder(folder)
        staging = folder / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        files = found.manifest.files
        _bring(store, files, folder, staging, tell)
        (staging / MODEL_MANIFEST).write_bytes(store.read(MODEL_MANIFEST))
        _move(folder, staging, keep={entry.name for entry in files}, earlier=earlier)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not error.filename:
            raise
        raise OutputError(f"{error.filename}: {error.strerror}", "choose another folder") from None
    return found


def _bring(
    store: Store, files: Sequence[FileEntry], folder: Path, staging: Path, tell: Tell
) -> None:
    total, before = sum(entry.size for entry in files), 0
    for number, entry in enumerate(files):
        at = Figures(before, total, unit=entry.name)
        came = partial(_came, tell, number, len(files), at)
        came(0)
        if not _is_there(entry, folder / entry.name):
            _fetch(store, entry, staging / entry.name, on_bytes=came)
        before += entry.size
    tell(len(files), len(files), Figures(before, total))


def _came(tell: Tell, number: int, count: int, at: Figures, size: int) -> None:
    tell(number, count, replace(at, num_bytes=at.num_bytes + size))


def _check_folder(folder: Path) -> tuple[str, ...]:
    """Names of files of an earlier pull in the folder.

    Raises:
        OutputError: something is there that is no pull of ours.
    """
    if not folder.exists():
        return ()
    there = sorted(entry.name for entry in folder.iterdir() if entry.name != STAGING)
    try:
        manifest = from_json(ModelManifest, (folder / MODEL_MANIFEST).read_bytes())
    except (FileNotFoundError, ManifestError):
        if not there or (folder / STAGING / MOVING).exists():
            return ()
        raise OutputError(
            f"{folder} is not empty ({there[0]} is there) and holds no model that was pulled; "
            "nothing was written",
            "name a new folder, or empty this one",
        ) from None
    return tuple(entry.name for entry in manifest.files)


def _move(folder: Path, staging: Path, *, keep: set[str], earlier: tuple[str, ...]) -> None:
    """Put verified files into place; the folder has a manifest only while it is whole."""
    (staging / MOVING).touch()
    (folder / MODEL_MANIFEST).unlink(missing_ok=True)
    for name in sorted(set(earlier) - keep):
        (folder / name).unlink(missing_ok=True)
    for name in (*sorted(keep), MODEL_MANIFEST):
        if (staging / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(folder / name)
    shutil.rmtree(staging)


def _is_there(entry: FileEntry, target: Path) -> bool:
    if not target.is_file() or target.stat().st_size != entry.size:
        return False
    step = block_bytes(entry)
    with target.open("rb") as there:
        return is_whole(entry, iter(lambda: there.read(step), b""))


def _fetch(
    store: Store, entry: FileEntry, target: Path, *, on_bytes: Callable[[int], None]
) -> None:
    if _is_there(entry, target):
        return
    step = block_bytes(entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:

        def blocks() -> Iterator[bytearray]:
            for start in range(0, entry.size, step):
                block = bytearray(min(step, entry.size - start))
                store.read_into(entry.name, memoryview(block), start=start)
                stream.write(block)
                on_bytes(start + len(block))
                yield block

        good = is_whole(entry, blocks())
        stream.flush()
        os.fsync(stream.fileno())
    if not good:
        target.unlink()
        raise ManifestError(
            f"{store.uri}/{entry.name} does not have the digest of its manifest; it was not kept, "
            "and nothing that was in the folder was changed",
            "run the same command again; if it stays, the store is damaged: metafuse verify",
        )
