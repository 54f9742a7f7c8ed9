"""What makes written bytes a model, and a model the current one: manifests, then the pointer."""

import getpass
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cluster.errors import PreconditionError
from cluster.stores.settled import read_settled
from cluster.stores.store import Store
from fusion.canonical import to_json
from fusion.manifests.pointer import Action, Pointer, PointerChange
from jobs.errors import PointerError
from jobs.outputs.conditional_puts import put_unless_same, read_or_none
from jobs.outputs.keys import OUTCOME_KEY, POINTER_KEY, POINTER_LOG
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.stored import parse_stored

Moved = Literal["promoted", "held", "superseded", "lost", "already", "finished"]


@dataclass(frozen=True, slots=True)
class SeenPointer:
    """The pointer as read, with the etag that a compare-and-swap needs, and its bytes."""

    pointer: Pointer
    etag: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Promotion:
    """How an attempt to move the pointer ended, and why, for people."""

    moved: Moved
    reason: str


def read_pointer(store: Store) -> SeenPointer | None:
    """The pointer of an output, or None where nothing was ever promoted.

    Raises:
        ManifestError: the pointer is there but cannot be read.
    """
    found = read_settled(store, POINTER_KEY)
    if found is None:
        return None
    return SeenPointer(
        parse_stored(Pointer, found.content, store=store, key=POINTER_KEY),
        found.etag,
        found.content,
    )


def read_history(store: Store, seen: SeenPointer | None = None) -> Iterator[Pointer]:
    """All pointers there ever were, newest first; asks the store for each as it is needed.

    Args:
        store: store of the output.
        seen: pointer to begin with; None for the pointer as it is now.
    """
    seen = seen or read_pointer(store)
    if seen is None:
        return
    yield seen.pointer
    for epoch in range(seen.pointer.epoch - 1, 0, -1):
        content = read_or_none(store, log_key(epoch))
        if content is None:
            return
        yield parse_stored(Pointer, content, store=store, key=log_key(epoch))


def find_promotion(store: Store, run: str, order: tuple[str, int]) -> Pointer | None:
    """The pointer by which a run was promoted, now or earlier; None if it never was.

    Args:
        store: store of the output.
        run: name of the run with attempt.
        order: (logical date, attempt) of the run. A run that promotes itself raises the high water
            to its order, so the search ends where the high water is below the order.
    """
    for pointer in read_history(store):
        if pointer.run == run:
            return pointer
        if tuple(pointer.high_water) < order:
            return None
    return None


def log_key(epoch: int) -> str:
    """Where the pointer of an epoch is kept once it is replaced."""
    return f"{POINTER_LOG}/{epoch:08d}.json"


def describe_change(action: Action, reason: str) -> PointerChange:
    """A change made now, by this user and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    by = f"{user}@{socket.gethostname()} ({os.getpid()})"
    return PointerChange(action, by, now, reason, uuid.uuid4().hex)


def swap_pointer(store: Store, seen: SeenPointer | None, pointer: Pointer) -> bool:
    """Replace the pointer that was seen; the one primitive by which pointers are written.

    The process that replaces a pointer keeps it in the log *before* it does so: the log then has
    every epoch below the current one, and nothing that never was current, whatever crashes.

    Args:
        store: store of the output.
        seen: pointer that is there; None for none.
        pointer: pointer to write, with the next epoch.

    Returns:
        False if another write came between. True if this write took effect, even if its answer
        was lost and others have replaced it since.

    Raises:
        PointerError: there is a log but no pointer.
    """
    content = to_json(pointer)
    if seen is None:
        if not is_fresh(store):
            return False
    else:
        put_unless_same(store, log_key(seen.pointer.epoch), seen.content, may_replace=False)
    try:
        if seen is None:
            store.put(POINTER_KEY, content, if_absent=True)
        else:
            store.put(POINTER_KEY, content, if_match=seen.etag)
    except PreconditionError:
        return _took_effect(store, pointer.epoch, content)
    return True


@dataclass(frozen=True, slots=True)
class Nominee:
    """A run's model that consumers are to get.

    Attributes:
        recipe: name of the recipe; a pointer of another recipe is refused.
        run: name of the run, with attempt.
        model: key of the model's folder.
        manifest_sha256: sha256 of the run's manifest.
        order: (logical date, attempt) of the run; must be above the pointer's high water.
        judged_against: name of the run that the gate compared with; "" for none.
    """

    recipe: str
    run: str
    model: str
    manifest_sha256: str
    order: tuple[str, int]
    judged_against: str


def move_pointer(store: Store, nominee: Nominee) -> Promotion:
    """Point consumers at a run's model, if that is still the right thing to do.

    Compare-and-swap on `latest.json`: of several drivers one wins, an older logical date never
    does, and a hold is kept.

    Args:
        store: store of the output, fenced where a lease is held.
        nominee: the model, and the run that it was judged against.

    Raises:
        PointerError: the pointer belongs to another recipe, or is gone while its log is there.
    """
    change = describe_change("promote", "the gate said PROMOTE")
    while True:
        seen = read_pointer(store)
        refusal = _refusal(store, seen, nominee)
        if refusal is not None:
            return refusal
        pointer = Pointer(
            recipe=nominee.recipe,
            run=nominee.run,
            model=nominee.model,
            manifest_sha256=nominee.manifest_sha256,
            logical_date=nominee.order[0],
            previous=seen.pointer.run if seen else "",
            epoch=seen.pointer.epoch + 1 if seen else 1,
            high_water=nominee.order,
            changed=change,
        )
        if swap_pointer(store, seen, pointer):
            return Promotion("promoted", f"latest is now {nominee.run}")


def check_owner(pointer: Pointer, recipe: str) -> None:
    """Refuse a pointer that another recipe writes.

    Raises:
        PointerError: another recipe writes the pointer.
    """
    if pointer.recipe != recipe:
        raise PointerError(
            f"the output's pointer belongs to recipe {pointer.recipe!r}, this one is {recipe!r}; "
            "nothing was read or written",
            "give this recipe an output of its own",
        )


def _refusal(store: Store, seen: SeenPointer | None, nominee: Nominee) -> Promotion | None:
    """Why the pointer that was seen is not to be moved; None if it is.

    The outcome is read after the pointer: a driver that finishes a run for a reason that may pass
    (a hold, say) saw a pointer on which this process's swap would then fail.
    """
    run, judged_against = nominee.run, nominee.judged_against
    if seen is not None:
        pointer = seen.pointer
        check_owner(pointer, nominee.recipe)
        if pointer.run == run:
            return Promotion("already", f"latest already names {run}")
        if nominee.order <= tuple(pointer.high_water):
            date, attempt = pointer.high_water
            return Promotion(
                "superseded", f"a run of {date} (attempt {attempt}) was promoted before"
            )
    if RunFolder(store, run).read(OUTCOME_KEY) is not None:
        return Promotion("finished", f"{run} was finished by another driver")
    if seen is None:
        gone = f"the pointer that named {judged_against} is gone"
        return Promotion("lost", gone) if judged_against else None
    if seen.pointer.hold:
        changed = seen.pointer.changed
        since = f" since {changed.at[:10]}" if changed.action in ("hold", "rollback") else ""
        return Promotion(
            "held",
            f"promotion is on hold{since}: {seen.pointer.hold}; metafuse unhold {store.uri} lets "
            "runs promote again",
        )
    if seen.pointer.run != judged_against:
        return Promotion("lost", f"latest became {seen.pointer.run} while this run was judged")
    return None


def is_fresh(store: Store) -> bool:
    """Where no pointer was seen: True if there is no log; False if a pointer appeared meanwhile.

    Raises:
        PointerError: there is a log but no pointer: `latest.json` was removed.
    """
    if next(iter(store.list(f"{POINTER_LOG}/")), None) is None:
        return True
    if read_pointer(store) is None:
        raise PointerError(
            f"{store.uri}/{POINTER_KEY} is gone, but {store.uri}/{POINTER_LOG}/ says that models "
            "were promoted; nothing was changed",
            f"copy the last file of {POINTER_LOG}/ to {POINTER_KEY}, or remove the whole log to "
            "start afresh",
        )
    return False


def _took_effect(store: Store, epoch: int, content: bytes) -> bool:
    """Whether the pointer of an epoch is, or was, exactly this one."""
    seen = read_pointer(store)
    if seen is None or seen.pointer.epoch < epoch:
        return False
    if seen.pointer.epoch == epoch:
        return seen.content == content
    return read_or_none(store, log_key(epoch)) == content
