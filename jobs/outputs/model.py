"""Side files, then the manifest: what makes written bytes a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.errors import PreconditionError
from cluster.stores.store import Store
from fusion.canonical import digest, from_json, to_json
from fusion.errors import ManifestError
from fusion.manifests.model import FileEntry, ModelManifest
from jobs.outputs.conditional_puts import put_unless_same, read_or_none
from jobs.outputs.keys import MODEL_MANIFEST


def commit_model(
    store: Store,
    folder: str,
    *,
    side_files: Mapping[str, bytes],
    shards: Sequence[FileEntry],
    manifest: ModelManifest,
) -> str:
    """Write side files, then the model's manifest last. Safe to repeat: nothing is written twice.

    Args:
        store: store of the output.
        folder: key of the model's folder, without a slash at the end.
        side_files: content of config, tokenizer, index and model card, by file name.
        shards: entries of the shards that the merge wrote.
        manifest: manifest of the model; its `files` are replaced by side files and shards.

    Returns:
        sha256 of the manifest's bytes.

    Raises:
        ManifestError: another manifest is there already.
    """
    small = [FileEntry(name, len(data), digest(data)) for name, data in side_files.items()]
    files = tuple(sorted([*small, *shards], key=lambda entry: entry.name))
    content = to_json(replace(manifest, files=files))
    key = f"{folder}/{MODEL_MANIFEST}"
    there = read_or_none(store, key)
    if there is None:
        for name, data in sorted(side_files.items()):
            put_unless_same(store, f"{folder}/{name}", data)
        try:
            store.put(key, content, if_absent=True)
        except PreconditionError:
            there = store.read(key)
    if there is None:
        return digest(content)
    if not _tells_the_same(there, replace(manifest, files=files)):
        raise ManifestError(
            f"{store.uri}/{key} exists and differs from what this plan writes; nothing was "
            "published",
            f"move {store.uri}/{folder} away and run again",
        )
    return digest(there)


def _tells_the_same(content: bytes, manifest: ModelManifest) -> bool:
    """Whether a manifest that is there is of the same model, however its health was measured."""
    try:
        known = from_json(ModelManifest, content)
    except ManifestError:
        return False
    return to_json(replace(known, health=None)) == to_json(replace(manifest, health=None))
