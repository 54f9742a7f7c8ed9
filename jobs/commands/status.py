"""`metafuse status`: where an output stands, for people or as one object, once or to its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.manifests.pointer import Pointer
from jobs.console.figures import Figures, SlowUnit, describe_figures, describe_rates, plural
from jobs.console.show import note, show, show_error, show_json, show_under
from jobs.console.sizes import format_size, format_wait
from jobs.merge.ledger_pace import MergePace
from jobs.operate.status import LeaseStatus, OutputStatus, RunStatus, look
from jobs.outputs.progress_note import ProgressNote

FOLLOW_SECONDS = 10.0
# Exit status where the pointer is gone: that of E-POINTER.
LOST_POINTER = 11
LEASE_TEXTS = {
    "free": "free",
    "alive": "held, its heartbeat advances",
    "silent": "held, but silent: the next driver takes over after 15 s",
    "gone": "held by a process that has ended: the next driver takes over at once",
}


def show_status(
    output: str, run: str | None, *, watch_seconds: float, is_followed: bool, as_json: bool
) -> int:
    """Show the state of an output; returns the exit status."""
    store = open_store(output)
    if is_followed:
        found = follow(store, run, watch_seconds=watch_seconds, say=note)
    else:
        found = look(store, run, watch_seconds=watch_seconds)
    status = LOST_POINTER if found.lost else 0
    if as_json:
        lost = {**asdict(found.lost), "exit_status": status} if found.lost else {}
        if lost:
            lost["error"] = lost.pop("code")
        show_json({**asdict(found), **lost})
        return status
    _show_pointer(output, found)
    _show_lease(found.lease)
    if found.run is None:
        show("run      none yet: metafuse run RECIPE starts one")
    else:
        _show_run(found.run, found.progress)
        others = [name for name in found.runs if name != found.run.run]
        if others:
            show(f"others   {len(others)}, the last: {', '.join(others[-5:])}")
    if found.lost:
        show_error(found.lost.code, found.lost.message, found.lost.hint)
    return status


def follow(
    store: Store,
    run: str | None,
    *,
    watch_seconds: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> OutputStatus:
    """Say one line every 10 s until the run has ended or no driver works on it; returns the end.

    Args:
        store: store of the output.
        run: name of the run to follow; None for the run that is the last one at each look.
        watch_seconds: longest time in seconds to watch a heartbeat.
        say: called with each line.
        sleep: waits for a number of seconds.
        clock: clock in seconds that only goes forward.
    """
    while True:
        started = clock()
        found = look(store, run, watch_seconds=watch_seconds, sleep=sleep)
        is_over = found.run is None or found.run.outcome is not None
        if is_over or found.lease.state in ("free", "gone"):
            return found
        assert found.run is not None
        say(_line(found.run, found.progress, found.lease))
        sleep(max(0.0, FOLLOW_SECONDS - (clock() - started)))


def _line(run: RunStatus, said: ProgressNote | None, lease: LeaseStatus) -> str:
    """A run in one line: what its driver says of it, else what its ledger says."""
    silent = ["its driver is silent"] if lease.state == "silent" else []
    if said is not None:
        parts = [f"{said.done}/{said.total}", *_said(said), *silent]
        return f"{run.run}  {said.step}  {', '.join(parts)}"
    parts = [f"{run.num_done}/{run.num_units} units"] if run.num_units else []
    parts += [*_paced(run.pace), *silent] if run.pace else silent
    return f"{run.run}  {run.step}  {', '.join(parts)}".rstrip()


def _said(said: ProgressNote) -> list[str]:
    is_open = said.done < said.total
    figures = Figures(
        num_bytes=said.num_bytes,
        total_bytes=said.total_bytes,
        num_retried=said.num_retried,
        num_examples=said.num_examples,
        total_examples=said.total_examples,
    )
    parts = describe_figures(
        figures,
        rates=(said.rate_now, said.rate_mean),
        seconds_left=said.seconds_left if is_open else None,
        workers=_placed(said.num_workers, len(said.hosts)),
    )
    return [*parts, *_slow(said.slowest)]


def _placed(num_workers: int, num_hosts: int) -> str:
    if not num_workers:
        return ""
    return f"{plural(num_workers, 'worker')} on {plural(num_hosts, 'host')}"


def _paced(pace: MergePace) -> list[str]:
    parts = describe_rates(pace.rate_now, pace.rate_mean)
    if pace.workers:
        parts.append(_placed(len(pace.workers), len(pace.hosts)))
        if pace.seconds_left:
            parts.append(f"{format_wait(pace.seconds_left)} left")
    else:
        parts.append(f"nobody finished a unit for {format_wait(pace.idle_seconds)}")
    return [*parts, *_slow(pace.slowest)]


def _slow(slowest: SlowUnit | None) -> list[str]:
    if slowest is None:
        return []
    return [f"slowest {slowest.unit}: {slowest.seconds:.1f} s on {slowest.host}"]


def _show_pointer(output: str, found: OutputStatus) -> None:
    pointer = found.pointer
    if found.lost:
        show("latest   gone: models were promoted, but the pointer to the last one is lost")
        return
    if pointer is None:
        show(f"latest   nothing is promoted in {output}")
        return
    date, attempt = pointer.high_water
    show(f"latest   {pointer.run}  epoch {pointer.epoch}")
    show(f"model    {output.rstrip('/')}/{pointer.model}")
    show_under("changed  ", _change(pointer))
    if pointer.hold:
        show_under("hold     ", pointer.hold)
    show(f"highest  {date} attempt {attempt}: only a later run promotes itself")
    _show_history(found.history)


def _show_history(history: Sequence[Pointer]) -> None:
    for pointer in history:
        show_under(f"before   {pointer.epoch:>4}  ", f"{pointer.run}  {_change(pointer)}")


def _change(pointer: Pointer) -> str:
    change = pointer.changed
    reason = f": {change.reason}" if change.reason else ""
    return f"{change.action} at {change.at} by {change.by}{reason}"


def _show_lease(lease: LeaseStatus) -> None:
    holder, who = lease.holder, ""
    if holder is not None and lease.state != "free":
        who = f": {holder.run} on {holder.host}, process {holder.pid}, beat {holder.beat}"
    show(f"lease    {LEASE_TEXTS[lease.state]}{who}")


def _show_run(run: RunStatus, said: ProgressNote | None) -> None:
    show(f"run      {run.run}  {run.step}")
    show(f"  found      {run.num_candidates} candidates, {run.num_skipped} skipped")
    show(f"  evaluated  {run.num_scored} of {run.num_candidates} on the rank slice")
    if run.num_units:
        done, total = format_size(run.done_bytes), format_size(run.merge_bytes)
        show(f"  merged     {run.num_done} of {run.num_units} units, {done} of {total}")
    if run.pace is not None:
        show(f"  pace       {', '.join(_paced(run.pace))}")
    if said is not None:
        age = format_wait(max(0.0, time.time() - said.written))
        figures = "".join(f", {part}" for part in _said(said))
        show(f"  at work    {said.step}: {said.done} of {said.total}{figures} ({age} ago)")
    if run.model or run.removed:
        show(f"  committed  {run.model or f'removed {run.removed}'}")
    if run.verdict:
        show_under("  judged     ", f"{run.verdict}: {run.sentence}")
    if run.outcome:
        ended = f"{run.outcome.result} (exit {run.outcome.exit_status})"
        why = "" if run.outcome.reason == run.sentence else f": {run.outcome.reason}"
        show_under("  ended      ", f"{ended}{why}")
    else:
        show("  ended      not yet: metafuse run RECIPE --date DATE continues it")
