"""Find candidates by path or pattern, and leave out by name what cannot be one."""

import posixpath
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from cluster.errors import NotFoundError
from fusion.checkpoints.agreement import find_mismatches
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.names import align_names
from fusion.errors import MismatchError
from jobs.candidates.adapters import Base
from jobs.candidates.cutting import unify_cutting
from jobs.candidates.patterns import expand_pattern, short_names
from jobs.candidates.pin import (
    REFUSING,
    SKIPPING,
    THREADS,
    Exclusion,
    Pinned,
    Refusal,
    pin_checkpoint,
)
from jobs.candidates.skipped import Skipped
from jobs.console.figures import list_some
from jobs.errors import (
    IncompleteError,
    NoCandidatesError,
)

# Names on one line of what a pattern matches beside candidates.
MOST_PASSED = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What the patterns of a recipe stand for.

    Attributes:
        candidates: usable checkpoints, in the order of patterns and names.
        skipped: checkpoints that cannot be used, and patterns that matched nothing.
        vocabularies: token -> id by candidate name, {} for a candidate without a tokenizer.
        base: base of the candidates that are adapters; None where no base was named.
        remarks: what is odd without being wrong, for people.
    """

    candidates: tuple[Checkpoint, ...]
    skipped: tuple[Skipped, ...]
    vocabularies: Mapping[str, Mapping[str, int]]
    base: Checkpoint | None = None
    remarks: tuple[str, ...] = ()


def find_candidates(
    patterns: Sequence[str],
    *,
    settle_seconds: float,
    now: float,
    on_refused: Literal["stop", "drop"] = "stop",
    base: str | None = None,
    output: str | None = None,
) -> Found:
    """Find, pin and read the headers of all candidates.

    Args:
        patterns: paths, globs and s3:// prefixes. A place that holds no checkpoint itself stands
            for the checkpoints right below it.
        settle_seconds: age in seconds below which an object marks its checkpoint as still being
            written.
        now: current time in seconds since 1970.
        on_refused: whether a hostile or unreadable checkpoint stops everything or is skipped.
        base: path or URI of the model that adapters among the candidates change; None for none.
        output: URI of a place that the work writes to: what patterns find there is left out; None
            for none.

    Raises:
        NoCandidatesError: nothing matched.
        HeaderError, PickleError, UnsafeNameError, MismatchError: refused, unless dropped. All
            refusals are in the message of the first.
    """
    places, skipped, remarks = _find_places(patterns, output)
    names = short_names(list(places))
    whole = pin_base(base) if base is not None else None

    def attempt(uri: str) -> Pinned:
        try:
            return pin_checkpoint(
                uri, name=names[uri], settle_seconds=settle_seconds, now=now, base=whole,
                place=places[uri],
            )  # fmt: skip
        except (*SKIPPING, *REFUSING) as error:
            return error

    candidates, refused = list[Checkpoint](), list[Refusal]()
    vocabularies: dict[str, Mapping[str, int]] = {}
    shared: dict[str, Mapping[str, int]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for (uri, name), outcome in zip(names.items(), pool.map(attempt, names), strict=True):
            if isinstance(outcome, tuple):
                candidates.append(outcome[0])
                vocabularies[name] = shared.setdefault(outcome[0].tokenizer_digest, outcome[1])
            elif isinstance(outcome, REFUSING) and on_refused == "stop":
                refused.append(outcome)
            else:
                skipped.append(_skip(name, uri, outcome))
    if refused:
        raise _join_refusals(refused)
    pinned = whole.checkpoint if whole is not None else None
    aligned = align_names(unify_cutting(candidates))
    return Found(aligned, tuple(skipped), vocabularies, pinned, remarks)


def pin_base(place: str) -> Base:
    """Pin the model that adapters change.

    Raises:
        NoCandidatesError: not one checkpoint is there.
        IncompleteError, TruncatedError, HeaderError, PickleError, UnsafeNameError, MismatchError:
            as `pin_checkpoint` says.
    """
    expansion = expand_pattern(place)
    uris = expansion.uris
    if len(uris) != 1:
        said = "" if uris else f" ({expansion.note})"
        raise NoCandidatesError(
            f"base: {place} stands for {len(uris)} checkpoints, one is needed{said}. Nothing was "
            "read.",
            "name the folder of the model that the adapters were trained on",
        )
    return Base(*pin_checkpoint(uris[0], name=posixpath.basename(uris[0]) or uris[0]))


def drop_mismatched(found: Found, *, cast: bool) -> Found:
    """The candidates that agree with most of the others; those that differ become skipped."""
    mismatches = find_mismatches(found.candidates, cast=cast, vocabularies=found.vocabularies)
    reasons = {m.checkpoint: m for m in reversed(mismatches)}
    kept = tuple(c for c in found.candidates if c.name not in reasons)
    dropped = tuple(
        Skipped(c.name, c.uri, reasons[c.name].code, reasons[c.name].text)
        for c in found.candidates
        if c.name in reasons
    )
    return replace(found, candidates=kept, skipped=found.skipped + dropped)


def find_places(patterns: Sequence[str], *, output: str | None = None) -> tuple[str, ...]:
    """URIs that the patterns stand for now; nothing is read of what is there."""
    expansions = (expand_pattern(pattern, output=output) for pattern in patterns)
    return tuple(dict.fromkeys(uri for expansion in expansions for uri in expansion.uris))


def _find_places(
    patterns: Sequence[str], output: str | None
) -> tuple[dict[str, str], list[Skipped], tuple[str, ...]]:
    """What the patterns stand for, with the place that each names; those for nothing; remarks."""
    places: dict[str, str] = {}
    remarks = []
    notes, unmatched = [], []
    for pattern in dict.fromkeys(patterns):
        expansion = expand_pattern(pattern, output=output)
        if expansion.own:
            remarks.append(
                f"{pattern} also stands for {len(expansion.own)} models in the output itself, "
                f"left out here, first {expansion.own[0]}; name one by its path to take it"
            )
        if expansion.passed:
            listed = list_some(expansion.passed, MOST_PASSED)
            remarks.append(f"{pattern} also matches what is no candidate: {listed}")
        notes.append(f"  {pattern}: {expansion.note}")
        places |= dict.fromkeys(expansion.uris, expansion.place)
        if not expansion.uris:
            reason = f"matched nothing: {expansion.note}"
            unmatched.append(Skipped(pattern, pattern, NotFoundError.code, reason))
    if not places:
        raise NoCandidatesError(
            "no candidate was found:\n" + "\n".join(notes) + "\nNothing was evaluated.",
            "a checkpoint is a folder with .safetensors files; check the paths under candidates",
        )
    return places, unmatched, tuple(remarks)


def _skip(name: str, uri: str, reason: Exclusion) -> Skipped:
    wait = reason.wait_seconds if isinstance(reason, IncompleteError) else 0.0
    # What has yet to settle says in its reason how long that takes.
    return Skipped(name, uri, reason.code, str(reason), wait, "" if wait else reason.hint)


def _join_refusals(refused: Sequence[Refusal]) -> Refusal:
    first = refused[0]
    if len(refused) > 1:
        lines = [f"  {error.code}  {error}" for error in refused]
        text = f"{len(refused)} candidates are refused:\n" + "\n".join(lines)
        if isinstance(first, MismatchError):
            return MismatchError(text, first.hint, first.code)
        return type(first)(text, first.hint)
    return first
