"""What makes written bytes a model, and a model the current one: manifests, then the pointer."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.errors import NotFoundError, PreconditionError
from cluster.store import Store
from fusion.canonical import digest, from_json, to_json
from fusion.errors import ManifestError
from fusion.manifest import FileEntry, ModelManifest, Pointer
from jobs.errors import PointerError

POINTER_KEY = "latest.json"
MODEL_MANIFEST = "manifest.json"

Moved = Literal["promoted", "held", "superseded", "lost", "already"]


@dataclass(frozen=True, slots=True)
class SeenPointer:
    """The pointer as read, with the etag that a compare-and-swap needs."""

    pointer: Pointer
    etag: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """How an attempt to move the pointer ended, and why, for people."""

    moved: Moved
    reason: str


def commit_model(
    store: Store,
    folder: str,
    *,
    side_files: Mapping[str, bytes],
    shards: Sequence[FileEntry],
    manifest: ModelManifest,
) -> str:
    """Write side files, then the model's manifest last. Safe to repeat.

    Args:
        store: of the output.
        folder: key of the model's folder, without a slash at the end.
        side_files: config, tokenizer, index, model card, by name.
        shards: what the merge wrote.
        manifest: its `files` are replaced by side files and shards.

    Returns:
        sha256 of the manifest's bytes.
    """
    for name, content in sorted(side_files.items()):
        store.put(f"{folder}/{name}", content)
    small = [FileEntry(name, len(data), digest(data)) for name, data in side_files.items()]
    files = tuple(sorted([*small, *shards], key=lambda entry: entry.name))
    content = to_json(replace(manifest, files=files))
    key = f"{folder}/{MODEL_MANIFEST}"
    try:
        store.put(key, content, if_absent=True)
    except PreconditionError:
        if store.read(key) != content:
            raise ManifestError(
                f"{store.uri}/{key} exists and differs from what this plan writes; nothing was "
                "published",
                f"move {store.uri}/{folder} away and run again",
            ) from None
    return digest(content)


def read_pointer(store: Store) -> SeenPointer | None:
    """The pointer of an output, or None where nothing was ever promoted.

    Raises:
        ManifestError: it is there but cannot be read.
    """
    while True:
        try:
            etag = store.head(POINTER_KEY).etag
            content = store.read(POINTER_KEY, if_match=etag)
        except NotFoundError:
            return None
        except PreconditionError:
            continue
        return SeenPointer(from_json(Pointer, content), etag)


def move_pointer(
    store: Store,
    *,
    recipe: str,
    run: str,
    model: str,
    manifest_sha256: str,
    order: tuple[str, int],
    judged_against: str,
    check: Callable[[], None],
) -> Promotion:
    """Point consumers at a run's model, if that is still the right thing to do.

    Compare-and-swap on `latest.json`: of several drivers one wins, an older logical date never
    does, and a hold is kept.

    Args:
        store: of the output.
        recipe: name of the recipe; a pointer of another recipe is refused.
        run: name of the run, with attempt.
        model: key of the model's folder.
        manifest_sha256: of the run's manifest.
        order: (logical date, attempt); must be above the pointer's high water.
        judged_against: run that the gate compared with, "" for none.
        check: called before each write; raises if this driver may no longer write.

    Raises:
        PointerError: the pointer belongs to another recipe.
    """
    while True:
        seen = read_pointer(store)
        if seen is not None:
            refusal = _refusal(seen.pointer, recipe, run, order, judged_against)
            if refusal is not None:
                return refusal
        elif judged_against:
            return Promotion("lost", f"the pointer that named {judged_against} is gone")
        pointer = Pointer(
            recipe=recipe,
            run=run,
            model=model,
            manifest_sha256=manifest_sha256,
            logical_date=order[0],
            previous=seen.pointer.run if seen else "",
            epoch=seen.pointer.epoch + 1 if seen else 1,
            high_water=order,
        )
        check()
        try:
            if seen is None:
                store.put(POINTER_KEY, to_json(pointer), if_absent=True)
            else:
                store.put(POINTER_KEY, to_json(pointer), if_match=seen.etag)
        except PreconditionError:
            continue  # another write came between, or our own first try won: look again
        return Promotion("promoted", f"latest is now {run}")


def check_owner(pointer: Pointer, recipe: str) -> None:
    """Refuse a pointer that another recipe writes.

    Raises:
        PointerError: it does.
    """
    if pointer.recipe != recipe:
        raise PointerError(
            f"the output's pointer belongs to recipe {pointer.recipe!r}, this one is {recipe!r}; "
            "nothing was read or written",
            "give this recipe an output of its own",
        )


def _refusal(
    pointer: Pointer, recipe: str, run: str, order: tuple[str, int], judged_against: str
) -> Promotion | None:
    check_owner(pointer, recipe)
    if pointer.run == run:
        return Promotion("already", f"latest already names {run}")
    if order <= tuple(pointer.high_water):
        date, attempt = pointer.high_water
        return Promotion("superseded", f"a run of {date} (attempt {attempt}) was promoted before")
    if pointer.hold:
        return Promotion("held", f"promotion is on hold: {pointer.hold}")
    if pointer.run != judged_against:
        return Promotion("lost", f"latest became {pointer.run} while this run was judged")
    return None


def chain_names(store: Store, run: str) -> bool:
    """True if the pointer, or the chain of runs behind it, names `run`."""
    seen = read_pointer(store)
    if seen is None:
        return False
    visited = {seen.pointer.run}
    name = seen.pointer.previous
    while name and name not in visited:
        visited.add(name)
        name = _replaced_by(store, name)
    return run in visited


def _replaced_by(store: Store, run: str) -> str:
    """The run that `run` replaced when it was promoted, from its outcome."""
    try:
        outcome = json.loads(store.read(f"runs/{run}/outcome.json"))
    except NotFoundError:
        return ""
    return str(outcome.get("previous", ""))
