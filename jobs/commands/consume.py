"""`metafuse predict`, `resolve`, `pull`, `report`."""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cluster.errors import NotFoundError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.console.show import Progress, show, show_json
from jobs.errors import IncompleteError, NoCandidatesError, UsageError
from jobs.outputs.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Exchange:
    """Files of `metafuse predict`: where texts come from, their columns, where answers go."""

    source: str | None = None
    columns: tuple[str, ...] = ("text",)
    output: str | None = None


def run_predict(
    models: Sequence[str],
    texts: Sequence[str],
    *,
    base: str | None,
    as_json: bool,
    files: Exchange | None = None,
) -> int:
    """`metafuse predict`: one line or one object an answer, in the order of what was asked."""
    from jobs.consume.answers import (
        check_ending,
        check_other_file,
        format_line,
        plain_answer,
        write_answers,
    )
    from jobs.consume.predict import answer_each

    place = files or Exchange()
    if place.output is not None:
        check_ending(place.output)
        check_other_file(place.source, place.output)
    # Lines are waited for once the models are found; what can be wrong at once is said at once.
    given = _find_questions(texts, place) if texts or place.source is not None else None
    candidates = _find_models(models, base)
    asked = _find_questions(texts, place) if given is None else given
    answers = answer_each(candidates, [1 / len(candidates)] * len(candidates), asked)
    if place.output is not None:
        found = list(answers)
        write_answers(place.output, found)
        if as_json:
            show_json({"output": place.output, "rows": len(found)})
        else:
            show(place.output)
        return 0
    for number, answer in enumerate(answers, 1):
        if as_json:
            show_json(plain_answer(number, answer))
        else:
            show(format_line(answer))
    return 0


def _find_questions(texts: Sequence[str], place: Exchange) -> Iterable[str | None]:
    """What is asked; blank lines and empty cells stay rows.

    Raises:
        UsageError: nothing.
    """
    from jobs.consume.questions import ASK_WITH, check_texts, read_lines, read_questions

    if texts and place.source is not None:
        raise UsageError("--text and --input are both given; nothing was asked", "give one")
    if texts:
        return check_texts(texts)
    if place.source is not None:
        rows: Iterable[str | None] = read_questions(place.source, place.columns)
    else:
        rows = read_lines(sys.stdin) if sys.stdin is not None else ()  # None: it was closed
    # A long run of blank lines is looked through once, and then told as it came.
    begin: list[str | None] = []
    rest = iter(rows)
    for row in rest:
        begin.append(row)
        if row is not None:
            return chain(begin, rest)
    raise UsageError("nothing to ask: no text is there", ASK_WITH)


def _find_models(models: Sequence[str], base: str | None) -> tuple[Checkpoint, ...]:
    from jobs.candidates.find import find_candidates
    from jobs.candidates.skipped import describe_skipped
    from jobs.consume.predict import find_asked
    from jobs.outputs.written_adapters import find_written_base

    uris = []
    for model in models:
        uri, is_promoted = find_asked(model)
        uris.append(uri)
        written = find_written_base(uri) if is_promoted else None
        base = base or (written.checkpoint.uri if written is not None else None)
    found = find_candidates(uris, settle_seconds=0, now=time.time(), base=base)
    if found.skipped:
        lines = [f"  {entry.name}: {describe_skipped(entry)}" for entry in found.skipped]
        count = len(found.skipped) + len(found.candidates)
        raise IncompleteError(
            f"{len(found.skipped)} of {count} models cannot be asked:\n" + "\n".join(lines),
            "mend them, or leave them out",
        )
    return found.candidates


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
