"""For consumers: which model is promoted, verified, and how to get it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.digests import RunningDigest
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.errors import ManifestError
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.manifests.pointer import Pointer
from jobs.errors import NoCandidatesError
from jobs.outputs.pointer import is_fresh, read_pointer
from jobs.outputs.runs import find_last_outcome
from jobs.outputs.verify import CheckedModel, check_run, verify_model

READ_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Resolved:
    """A promoted model whose manifests fit together.

    Attributes:
        uri: URI of the model's folder.
        pointer: pointer that names the model.
        manifest: manifest of the model.
    """

    uri: str
    pointer: Pointer
    manifest: ModelManifest


def resolve(output: str, *, with_bytes: bool = False) -> Resolved:
    """The promoted model of an output, after its manifests and file sizes were checked.

    Args:
        output: path or URI of the output.
        with_bytes: whether to read every byte and compare it with its digest as well.

    Raises:
        NoCandidatesError: nothing was promoted yet.
        PointerError: the pointer is gone while its log is there.
        ManifestError: the model that is there is not the one that was promoted.
    """
    store = open_store(output)
    seen = read_pointer(store)
    if seen is None:
        is_fresh(store)
        raise _nothing_promoted(store)
    pointer = seen.pointer
    model = check_run(store, pointer.run, pointer.manifest_sha256)
    if with_bytes:
        check_bytes(store, model)
    return Resolved(f"{store.uri}/{model.folder}", pointer, model.manifest)


def _nothing_promoted(store: Store) -> NoCandidatesError:
    """What is there instead of a promoted model, and what to do."""
    text = f"nothing was promoted to {store.uri} yet"
    last = find_last_outcome(store)
    if last is None:
        return NoCandidatesError(text, "metafuse run RECIPE makes and judges a model")
    run, outcome = last
    by_hand = f"metafuse promote {store.uri} {run} --reason TEXT promotes it by hand"
    return NoCandidatesError(
        f"{text}; the last run, {run}, ended as {outcome.result}: {outcome.reason}",
        by_hand if outcome.manifest_sha256 else "metafuse run RECIPE makes and judges a model",
    )


def check_bytes(store: Store, model: CheckedModel) -> None:
    """Read a model whole and compare it with the digests of its manifest.

    Raises:
        ManifestError: names every range that differs.
    """
    found = verify_model(store, model, share=1.0, seed="")
    if found.differences:
        raise ManifestError(
            "\n".join(found.differences) + "\nThe model is damaged and was not used.",
            "metafuse rollback OUTPUT --reason TEXT goes back to a whole model; if you changed the "
            "files yourself, delete manifest.json beside them",
        )


def is_whole(entry: FileEntry, blocks: Iterable[bytes | bytearray]) -> bool:
    """Whether the content of a file has the digests of its entry.

    Args:
        entry: entry of the file in the manifest.
        blocks: content in order; where the entry has units, every block but the last is one unit
            long.
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
