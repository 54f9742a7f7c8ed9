"""`metafuse predict`, `resolve`, `pull`, `report`."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cluster.errors import NotFoundError
from cluster.stores.open_store import open_store
from jobs.console.show import Progress, show, show_json
from jobs.errors import IncompleteError, NoCandidatesError, UsageError
from jobs.outputs.run_folder import RunFolder


def run_predict(
    models: Sequence[str], texts: Sequence[str], *, base: str | None, as_json: bool
) -> int:
    """`metafuse predict`."""
    from jobs.candidates.find import find_candidates
    from jobs.candidates.written_adapters import find_written_base
    from jobs.consume.predict import find_asked, predict

    uris = []
    for model in models:
        uri, is_promoted = find_asked(model)
        uris.append(uri)
        written = find_written_base(uri) if is_promoted else None
        base = base or (written.checkpoint.uri if written is not None else None)
    found = find_candidates(uris, settle_seconds=0, now=time.time(), base=base)
    if found.skipped:
        lines = [f"  {entry.name}: {entry.code} {entry.reason}" for entry in found.skipped]
        count = len(found.skipped) + len(found.candidates)
        raise IncompleteError(
            f"{len(found.skipped)} of {count} models cannot be asked:\n" + "\n".join(lines),
            "mend them, or leave them out",
        )
    asked = list(texts) or _read_lines()
    if not asked:
        raise UsageError("nothing to ask: no --text and nothing on stdin")
    count = len(found.candidates)
    answers = predict(found.candidates, [1 / count] * count, asked)
    if as_json:
        show_json({"answers": [asdict(answer) for answer in answers]})
        return 0
    for answer in answers:
        sure = f"  {answer.probability:.3f}" if answer.probability is not None else ""
        show(f"{answer.answer}{sure}\t{answer.text}")
    return 0


def _read_lines() -> list[str]:
    """The lines of stdin that are not blank.

    Raises:
        UsageError: a line is not UTF-8.
    """
    lines = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            lines.append(line.decode().strip())
        except UnicodeDecodeError as error:
            raise UsageError(
                f"line {number} of stdin is not UTF-8 at byte {error.start}; nothing was asked",
                "change its encoding, as by: iconv -f latin1 -t utf-8",
            ) from None
    return [line for line in lines if line]


def show_resolved(output: str, *, with_bytes: bool, as_json: bool) -> int:
    """`metafuse resolve`."""
    from jobs.consume.resolve import resolve

    found = resolve(output, with_bytes=with_bytes)
    if as_json:
        pointer = found.pointer
        show_json({"uri": found.uri, "run": pointer.run, "epoch": pointer.epoch,
                   "manifest_sha256": pointer.manifest_sha256})  # fmt: skip
    else:
        show(found.uri)
    return 0


def run_pull(output: str, folder: Path, *, as_json: bool) -> int:
    """`metafuse pull`."""
    from jobs.consume.pull import pull

    progress = Progress(is_quiet=as_json)
    try:
        found = pull(output, folder, tell=progress.step("pull"))
    finally:
        progress.close()
    if as_json:
        show_json({"uri": found.uri, "folder": str(folder), "run": found.pointer.run})
    else:
        show(str(folder))
    return 0


def show_report(output: str, run_name: str | None, folder: Path | None, *, as_json: bool) -> int:
    """`metafuse report`."""
    from jobs.outputs.judgements import find_judgements, judgement_name
    from jobs.outputs.pointer import read_pointer

    store = open_store(output)
    seen = read_pointer(store)
    name = run_name or (seen.pointer.run if seen else _newest_run(output))
    run = RunFolder(store, name)
    judgements = list(find_judgements(run))
    if not judgements:
        raise NotFoundError(
            f"{store.uri} has no report of a run {name!r}",
            f"metafuse status {output} lists its runs",
        )
    last = judgements[-1]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("report.html", "report.md", "report.json"):
            key = run.key(judgement_name(file, last.number))
            (folder / file).write_bytes(store.read(key))
        page = str(folder / "report.html")
        if as_json:
            show_json({"run": name, "report": page})
        else:
            show(page)
        return 0
    if as_json:
        print_bytes(last.content)
    else:
        show(store.read(run.key(judgement_name("report.md", last.number))).decode())
        page = run.key(judgement_name("report.html", last.number))
        show(f"{store.uri}/{page} ({last.report.verdict.decision})")
    return 0


def print_bytes(content: bytes) -> None:
    """Print JSON as it is stored."""
    sys.stdout.write(content.decode())


def _newest_run(output: str) -> str:
    store = open_store(output)
    found = [entry for entry in store.list("runs/") if entry.key.endswith("/report.json")]
    if not found:
        raise NoCandidatesError(f"{store.uri} has no report yet", "metafuse run RECIPE writes one")
    return max(found, key=lambda entry: entry.modified).key.split("/")[1]
