"""Whether what is stored is what was committed: manifests, sizes, and digests of units."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from cluster.digests import RunningDigest
from cluster.errors import NotFoundError
from cluster.stores.store import Store
from fusion.canonical import digest
from fusion.errors import ManifestError, NoManifestError
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.manifests.run import RunManifest
from jobs.console.figures import Figures, Tell, tell_nobody
from jobs.outputs.judgements import read_manifest
from jobs.outputs.keys import MODEL_MANIFEST, REMOVED_KEY
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.stored import parse_stored

READ_BYTES = 8 << 20
READERS = 4


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model whose manifests fit together and whose files have the right sizes.

    Attributes:
        folder: key of the model's folder.
        run: manifest of the run; None for a model by itself.
        manifest: manifest of the model.
        sha256: sha256 of the model's manifest.
    """

    folder: str
    run: RunManifest | None
    manifest: ModelManifest
    sha256: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification read.

    Attributes:
        num_files: number of the model's files.
        num_bytes: bytes of the model.
        read_bytes: bytes that were read and compared with digests.
        num_units: number of the model's units; a file without digests of its units is one unit.
        num_read: number of units that were read.
        differences: one sentence for each difference; empty if all is well.
    """

    num_files: int
    num_bytes: int
    read_bytes: int
    num_units: int
    num_read: int
    differences: tuple[str, ...]


def check_run(store: Store, run: str, manifest_sha256: str) -> CheckedModel:
    """The model of a judged run, after its manifests and file sizes were checked.

    Args:
        store: store of the output.
        run: name of the run with attempt.
        manifest_sha256: sha256 of the run's manifest, as the pointer or the outcome says.

    Raises:
        ManifestError: something is missing or other than it was.
    """
    removed = read_removed(store, run)
    if removed:
        raise ManifestError(f"the model of {run} was removed {removed}")
    found = read_manifest(RunFolder(store, run), manifest_sha256)
    if found is None:
        raise ManifestError(
            f"{store.uri}/runs/{run} has no manifest with the digest {manifest_sha256[:12]} "
            "that it was judged or promoted with"
        )
    model = check_model(store, found.model)
    if model.sha256 != found.model_manifest_sha256:
        raise ManifestError(
            f"{store.uri}/{found.model}/{MODEL_MANIFEST} is not the one that {run} was judged with"
        )
    return CheckedModel(found.model, found, model.manifest, model.sha256)


def read_removed(store: Store, run: str) -> str:
    """Who removed the model of a run, when and why; "" if it was not removed."""
    try:
        return store.read(f"runs/{run}/{REMOVED_KEY}").decode(errors="replace").strip()
    except NotFoundError:
        return ""


def check_model(store: Store, folder: str) -> CheckedModel:
    """A model by its own manifest: every file there, with the right size.

    Raises:
        ManifestError: names all files that are missing or have another size.
        NoManifestError: the model has no manifest.
    """
    stem = f"{folder}/" if folder else ""
    try:
        content = store.read(f"{stem}{MODEL_MANIFEST}")
    except NotFoundError:
        raise NoManifestError(f"{store.uri}/{stem}{MODEL_MANIFEST} is missing") from None
    manifest = parse_stored(ModelManifest, content, store=store, key=f"{stem}{MODEL_MANIFEST}")
    wrong = []
    for entry in manifest.files:
        found = _size(store, f"{stem}{entry.name}")
        if found != entry.size:
            what = "it is missing" if found < 0 else f"{found:,} found"
            wrong.append(f"{store.uri}/{stem}{entry.name}: {entry.size:,} bytes expected, {what}")
    if wrong:
        raise ManifestError("\n".join(wrong), "metafuse rollback OUTPUT goes back to a whole model")
    return CheckedModel(folder, None, manifest, digest(content))


def verify_model(
    store: Store,
    model: CheckedModel,
    *,
    share: float,
    seed: str,
    tell: Tell = tell_nobody,
) -> Verified:
    """Read units of a model again and compare their digests.

    Args:
        store: store of the output.
        model: model whose files have the right sizes.
        share: share of the units to read, 0 to 1; small files are always read, and at least one
            unit.
        seed: seed that picks the units; other seeds pick other units.
        tell: called with (units done, units to read, figures), first with no unit done.
    """
    pieces = [piece for entry in model.manifest.files for piece in _cut(entry)]
    chosen = _choose(pieces, share, f"{model.sha256} {seed}")
    stem = f"{model.folder}/" if model.folder else ""
    differences = [
        f"{store.uri}/{stem}{entry.name}: the digests of its units do not add up to its digest"
        for entry in model.manifest.files
        if not _adds_up(entry)
    ]

    differs = partial(_difference, store, stem)
    with ThreadPoolExecutor(READERS if store.is_remote else 2, "verify") as pool:
        at = Figures(total_bytes=sum(piece.end - piece.start for piece in chosen))
        tell(0, len(chosen), at)
        for number, text in enumerate(pool.map(differs, chosen), 1):
            piece = chosen[number - 1]
            at = replace(at, num_bytes=at.num_bytes + piece.end - piece.start, unit=piece.name)
            tell(number, len(chosen), at)
            if text:
                differences.append(text)
    return Verified(
        num_files=len(model.manifest.files),
        num_bytes=sum(entry.size for entry in model.manifest.files),
        read_bytes=sum(piece.end - piece.start for piece in chosen),
        num_units=len(pieces),
        num_read=len(chosen),
        differences=tuple(differences),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range of a file and the digest it must have."""

    name: str
    start: int
    end: int
    kind: str
    expected: str
    is_small: bool


def _cut(entry: FileEntry) -> Iterator[_Piece]:
    if not entry.units:
        is_small = not entry.unit_bytes
        kind, expected = ("sha256", entry.sha256) if is_small else ("crc64nvme", entry.crc64nvme)
        yield _Piece(entry.name, 0, entry.size, kind, expected, is_small)
        return
    for number, expected in enumerate(entry.units):
        start = number * entry.unit_bytes
        end = min(start + entry.unit_bytes, entry.size)
        yield _Piece(entry.name, start, end, "sha256", expected, is_small=False)


def _adds_up(entry: FileEntry) -> bool:
    if not entry.units:
        return bool(entry.sha256 or entry.crc64nvme)
    whole = hashlib.sha256(b"".join(map(bytes.fromhex, entry.units))).hexdigest()
    return whole == entry.sha256 and len(entry.units) == -(-entry.size // entry.unit_bytes)


def _choose(pieces: Sequence[_Piece], share: float, seed: str) -> list[_Piece]:
    """Small files, and those units whose hash with the seed is low: the same for the same seed."""
    large = [piece for piece in pieces if not piece.is_small]

    def lot(piece: _Piece) -> float:
        text = f"{seed} {piece.name} {piece.start}"
        return int(digest(text.encode())[:16], 16) / 2**64

    drawn = {piece for piece in large if lot(piece) < share}
    if large and not drawn:
        drawn = {min(large, key=lot)}
    return [piece for piece in pieces if piece.is_small or piece in drawn]


def _digest_of(store: Store, key: str, piece: _Piece) -> str:
    sha256, crc = hashlib.sha256(), RunningDigest(with_sha256=False)
    buffer = bytearray(max(1, min(READ_BYTES, piece.end - piece.start)))
    for start in range(piece.start, piece.end, len(buffer)):
        view = memoryview(buffer)[: piece.end - start]
        store.read_into(key, view, start=start)
        if piece.kind == "sha256":
            sha256.update(view)
        else:
            crc.update(view)
    return sha256.hexdigest() if piece.kind == "sha256" else crc.crc64nvme


def _difference(store: Store, stem: str, piece: _Piece) -> str:
    """What is wrong with a range, "" for nothing."""
    where = f"{store.uri}/{stem}{piece.name}, bytes {piece.start:,} to {piece.end:,}"
    try:
        found = _digest_of(store, f"{stem}{piece.name}", piece)
    except NotFoundError:
        return f"{where}: gone since its size was looked at"
    if found == piece.expected:
        return ""
    return f"{where}: {piece.kind} {piece.expected[:16]} expected, {found[:16]} found"


def _size(store: Store, key: str) -> int:
    try:
        return store.head(key).size
    except NotFoundError:
        return -1
