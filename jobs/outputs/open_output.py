"""The store of an output, where pointers are moved: opened only if that can be done safely."""

from dataclasses import dataclass

from cluster.stores.open_store import open_store
from cluster.stores.probe import StoreFacts, probe_store
from cluster.stores.single_writer import SingleWriterStore
from cluster.stores.store import Store
from jobs.errors import PointerError

SINGLE_WRITER_NOTE = (
    "the store ignores conditional writes; the pointer was moved without them, because the recipe "
    "says single_writer"
)


@dataclass(frozen=True, slots=True)
class Output:
    """A store to publish to, and what the report has to say about it."""

    store: Store
    notes: tuple[str, ...] = ()


def open_output(uri: str, *, single_writer: bool) -> Output:
    """The store behind a URI, after trying out whether it keeps conditional writes.

    Args:
        uri: URI of the output.
        single_writer: whether the operator vouches that no other process writes to the output.

    Raises:
        PointerError: the store keeps no conditional writes, and the operator does not vouch.
    """
    store = open_store(uri)
    facts = probe_store(store)
    if not facts.is_writable or is_safe(facts):
        return Output(store)  # what cannot be written says so, precisely, at the first real write
    if single_writer:
        return Output(SingleWriterStore(store), (SINGLE_WRITER_NOTE,))
    raise PointerError(
        f"{store.uri}: {describe_promotion(facts)}: of two writers both would think they had won. "
        "Nothing was evaluated, merged or promoted.",
        "use a store with conditional writes; or, if one process at a time and nobody by hand "
        "writes there, say single_writer: true in the recipe (--single-writer by hand)",
    )


def look_at_output(uri: str, *, single_writer: bool) -> str:
    """What `open_output` would find, in a few words. A folder is not tried out, nothing is made."""
    store = open_store(uri)
    if not store.is_remote:
        return "safe"
    facts = probe_store(store)
    if not facts.is_writable or is_safe(facts):
        return "safe" if facts.is_writable else describe_promotion(facts)
    vouched = "allowed by single_writer" if single_writer else "a run will be refused"
    return f"{describe_promotion(facts)}: {vouched}"


def is_safe(facts: StoreFacts) -> bool:
    """Whether compare-and-swap works, on which every move of a pointer rests."""
    return facts.has_conditional_create and facts.has_conditional_update


def describe_promotion(facts: StoreFacts) -> str:
    """What a probe means for promotion, in a few words."""
    if not facts.is_writable:
        return f"cannot be written: {facts.problem}"
    if is_safe(facts):
        return "conditional writes work"
    missing = [
        name
        for name, there in (
            ("If-None-Match", facts.has_conditional_create),
            ("If-Match", facts.has_conditional_update),
        )
        if not there
    ]
    return f"the store ignores conditional writes ({', '.join(missing)}), no safe promotion"
