"""Judgements of a run: each a report and a manifest that nobody overwrites.

A run is judged once, and again only if another model was promoted meanwhile. The first judgement is
`report.json` and `manifest.json`, the next `report-2.json` and `manifest-2.json`. They are put only
if absent, so a driver that wakes from the dead adopts what is there and changes nothing that a
pointer names.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.store import Store
from fusion.canonical import digest, from_json, to_json
from fusion.manifests.report import RunReport
from fusion.manifests.run import RunManifest


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement as it stands in storage; `content` is that of its report.json."""

    number: int
    report: RunReport
    content: bytes


def find_judgements(store: Store, run: str) -> Iterator[Judgement]:
    """All judgements of a run, in order."""
    for number in itertools.count(1):
        try:
            content = store.read(judgement_key(run, "report.json", number))
        except NotFoundError:
            return
        yield Judgement(number, from_json(RunReport, content), content)


def find_judgement(store: Store, run: str, incumbent: str) -> Judgement | None:
    """The judgement against one incumbent ("" for none); None where there is none yet."""
    found = (j for j in find_judgements(store, run) if j.report.incumbent == incumbent)
    return next(found, None)


def keep_judgement(
    store: Store, run: str, report: RunReport, *, check: Callable[[], None] = lambda: None
) -> Judgement:
    """Write a report under the next number, or adopt one against the same incumbent.

    `check` raises if this driver may no longer write; it is asked when the number is known.
    """
    while True:
        known = find_judgement(store, run, report.incumbent)
        if known is not None:
            return known
        number = sum(1 for _ in find_judgements(store, run)) + 1
        content = to_json(report)
        check()
        try:
            store.put(judgement_key(run, "report.json", number), content, if_absent=True)
        except PreconditionError:
            continue
        return Judgement(number, report, content)


def keep_manifest(
    store: Store, run: str, judgement: Judgement, make: Callable[[str], RunManifest]
) -> str:
    """Write the run's manifest for a judgement, or adopt the one that is there.

    Args:
        store: of the output.
        run: name of the run.
        judgement: kept.
        make: the manifest from the sha256 of report.json.

    Returns:
        sha256 of the manifest.
    """
    key = judgement_key(run, "manifest.json", judgement.number)
    content = to_json(make(digest(judgement.content)))
    try:
        store.put(key, content, if_absent=True)
    except PreconditionError:
        content = store.read(key)
    return digest(content)


def read_manifest(store: Store, run: str, sha256: str) -> RunManifest | None:
    """The manifest of a run that has this digest; None where there is none."""
    for number in itertools.count(1):
        try:
            content = store.read(judgement_key(run, "manifest.json", number))
        except NotFoundError:
            return None
        if digest(content) == sha256:
            return from_json(RunManifest, content)
    raise AssertionError("unreachable")


def judgement_key(run: str, name: str, number: int) -> str:
    """runs/RUN/report.json, and from the second on runs/RUN/report-2.json."""
    stem, _, kind = name.rpartition(".")
    return f"runs/{run}/{stem}.{kind}" if number == 1 else f"runs/{run}/{stem}-{number}.{kind}"
