"""Judgements of a run: each a report and a manifest that no driver overwrites.

A run is judged once, and again only if another model was promoted meanwhile. The first judgement is
`report.json` and `manifest.json`, the next `report-2.json` and `manifest-2.json`. They are put only
if absent, so a driver that wakes from the dead adopts what is there and changes nothing that a
pointer names.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.errors import PreconditionError
from fusion.canonical import digest, to_json
from fusion.manifests.report import RunReport
from fusion.manifests.run import RunManifest
from jobs.outputs.keys import REPORT_KEY, RUN_MANIFEST
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.stored import parse_stored


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement as it stands in storage; `content` is that of its report.json."""

    number: int
    report: RunReport
    content: bytes


def find_judgements(folder: RunFolder) -> Iterator[Judgement]:
    """All judgements of a run, in order."""
    for number in itertools.count(1):
        name = judgement_name(REPORT_KEY, number)
        content = folder.read(name)
        if content is None:
            return
        report = parse_stored(RunReport, content, store=folder.store, key=folder.key(name))
        yield Judgement(number, report, content)


def find_judgement(folder: RunFolder, incumbent: str) -> Judgement | None:
    """The judgement against one incumbent ("" for none); None where there is none yet."""
    found = (j for j in find_judgements(folder) if j.report.incumbent == incumbent)
    return next(found, None)


def keep_judgement(folder: RunFolder, report: RunReport) -> Judgement:
    """Write a report under the next number, or adopt one against the same incumbent."""
    while True:
        # Looked at once: what another driver writes meanwhile has the number that is tried here.
        known = list(find_judgements(folder))
        for judgement in known:
            if judgement.report.incumbent == report.incumbent:
                return judgement
        number = len(known) + 1
        content = to_json(report)
        key = folder.key(judgement_name(REPORT_KEY, number))
        try:
            folder.store.put(key, content, if_absent=True)
        except PreconditionError:
            continue
        return Judgement(number, report, content)


def keep_manifest(
    folder: RunFolder, judgement: Judgement, make: Callable[[str], RunManifest]
) -> str:
    """Write the run's manifest for a judgement, or adopt the one that is there.

    Args:
        folder: folder of the run.
        judgement: judgement that is stored already.
        make: makes the manifest from the sha256 of report.json.

    Returns:
        sha256 of the manifest.

    Raises:
        ManifestError: the one that is there is damaged, and no pointer may name it.
    """
    key = folder.key(judgement_name(RUN_MANIFEST, judgement.number))
    content = to_json(make(digest(judgement.content)))
    try:
        folder.store.put(key, content, if_absent=True)
    except PreconditionError:
        content = folder.store.read(key)
        parse_stored(RunManifest, content, store=folder.store, key=key)
    return digest(content)


def read_manifest(folder: RunFolder, sha256: str) -> RunManifest | None:
    """The manifest of a run that has this digest; None where there is none."""
    for number in itertools.count(1):
        name = judgement_name(RUN_MANIFEST, number)
        content = folder.read(name)
        if content is None:
            return None
        if digest(content) == sha256:
            return parse_stored(RunManifest, content, store=folder.store, key=folder.key(name))
    raise AssertionError("unreachable")


def judgement_name(name: str, number: int) -> str:
    """report.json, and from the second on report-2.json."""
    stem, _, kind = name.rpartition(".")
    return f"{stem}.{kind}" if number == 1 else f"{stem}-{number}.{kind}"
