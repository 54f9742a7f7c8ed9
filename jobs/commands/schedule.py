"""What `metafuse schedule run` and `list` do and show."""

import signal
import sys
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from jobs.console.show import show, show_json, show_table, warn
from jobs.errors import RecipeError
from jobs.exits import ENDED
from jobs.outputs.open_output import open_output
from jobs.recipes.recipe import Recipe, load_recipe
from jobs.schedule.child import Launch, NightProcess
from jobs.schedule.export import export_units
from jobs.schedule.nights import ON_TIME_SECONDS, LogLine, Night
from jobs.schedule.scheduler import Scheduler, StateFile, read_state, run_scheduler, this_process
from jobs.schedule.timetable import Tick, Timetable, clock_change_warning, ticks, timetable_of
from jobs.schedule.units import UnitKind, UnitRequest
from jobs.submit.submit import check_places

SHOWN_NIGHTS = 14


def run_nights(
    path: Path, *, address: str | None, state_uri: str | None, is_once: bool, is_plain: bool
) -> int:
    """`metafuse schedule run`."""
    recipe, timetable = load_timetable(path)
    uri, key = _place(recipe, state_uri)
    store = open_output(uri, single_writer=recipe.single_writer).store
    if said := clock_change_warning(timetable, time.time()):
        warn(said)
    launch = Launch(path.absolute(), recipe.name, (address or "").rstrip("/"))
    stopped = threading.Event()
    scheduler = Scheduler(
        StateFile(store, key),
        timetable,
        begin=lambda night: NightProcess(launch, night.date),
        say=_say,
        me=this_process(),
        # A timer that calls us at the tick comes a little after it.
        look_back_seconds=max(timetable.catch_up_seconds, ON_TIME_SECONDS) if is_once else 0.0,
    )
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopped.set())
    status = run_scheduler(scheduler, stopped, is_once=is_once, warn=warn)
    return 0 if is_plain and status in ENDED else status


def list_nights(path: Path, *, state_uri: str | None, count: int, as_json: bool) -> int:
    """`metafuse schedule list`."""
    recipe, timetable = load_timetable(path)
    store, key = _open_state(recipe, state_uri)
    state = read_state(store, key)
    coming = tuple(islice(ticks(timetable, time.time()), count))
    if as_json:
        show_json(
            {
                **asdict(timetable),
                "next": [_described_tick(tick, timetable) for tick in coming],
                "nights": [_described(night, timetable) for night in state.nights] if state else [],
                "decisions": [asdict(line) for line in state.log] if state else [],
            }
        )
        return 0
    show(
        f"{timetable.name}: {timetable.cron} in {timetable.zone}, overlap {timetable.overlap}, "
        f"catch up {timetable.catch_up_seconds / 3600:g} h"
    )
    if said := clock_change_warning(timetable, time.time()):
        warn(said)
    rows = [(t.date, _local(t.at, timetable), _utc(t.at)) for t in coming]
    show_table(("next", "local", "UTC"), rows)
    if state is None or not state.nights:
        show("no night yet")
        return 0
    show_table(
        ("night", "due, UTC", "status", "exit", "tries", "reason"),
        [_row(night) for night in state.nights[-SHOWN_NIGHTS:]],
    )
    return 0


def export_nights(
    path: Path,
    kind: UnitKind,
    *,
    out: Path | None,
    image: str | None,
    address: str | None,
    as_json: bool,
) -> int:
    """`metafuse schedule export`."""
    recipe, timetable = load_timetable(path)
    if kind in ("kubernetes", "kuberay"):
        check_places(path)
    warning = clock_change_warning(timetable, time.time()) or ""
    if warning:
        warn(warning)
    request = UnitRequest(
        timetable=timetable,
        recipe=path.absolute(),
        recipe_text=recipe.text,
        output=recipe.output,
        image=image or f"example.org/metafuse:{version('metafuse')}",
        address=(address or "").rstrip("/"),
        command=_own_command(),
        warning=warning,
    )
    units = export_units(kind, request)
    for unit in units:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / unit.name).write_text(unit.text)
    if as_json:
        show_json({"units": [asdict(unit) for unit in units], "warning": warning})
    else:
        for unit in units:
            show(str(out / unit.name) if out is not None else unit.text.rstrip("\n"))
    return 0


def _own_command() -> tuple[str, ...]:
    """How this metafuse is called by something without our PATH."""
    script = Path(sys.executable).with_name("metafuse")
    return (str(script),) if script.exists() else (sys.executable, "-P", "-m", "jobs")


def load_timetable(path: Path) -> tuple[Recipe, Timetable]:
    """A recipe and its schedule.

    Raises:
        RecipeError: the recipe has mistakes, or no schedule.
    """
    recipe = load_recipe(path)
    timetable = timetable_of(recipe)
    if timetable is None:
        raise RecipeError(
            f"{path.name}: schedule is missing; nothing was done",
            'add a line such as schedule: {cron: "0 4 * * *", zone: Europe/Paris, catch_up: 6h}',
        )
    return recipe, timetable


def _place(recipe: Recipe, state_uri: str | None) -> tuple[str, str]:
    """Where the state lives: a URI, and the key there."""
    if state_uri is not None:
        return state_uri, f"{recipe.name}.json"
    return recipe.output, f"schedule/{recipe.name}.json"


def _open_state(recipe: Recipe, state_uri: str | None) -> tuple[Store, str]:
    uri, key = _place(recipe, state_uri)
    return open_store(uri), key


def _say(line: LogLine) -> None:
    show_json(asdict(line))


def _described_tick(tick: Tick, timetable: Timetable) -> dict[str, object]:
    return {"date": tick.date, "utc": _utc(tick.at), "local": _local(tick.at, timetable)}


def _described(night: Night, timetable: Timetable) -> dict[str, object]:
    return {
        "date": night.date, "run": f"{timetable.name}-{night.date}", "utc": _utc(night.tick),
        "local": _local(night.tick, timetable), "status": night.status,
        "exit_status": night.exit_status, "tries": night.tries, "reason": night.reason,
    }  # fmt: skip


def _row(night: Night) -> tuple[str, ...]:
    code = "" if night.exit_status is None else str(night.exit_status)
    return (night.date, _utc(night.tick), night.status, code, str(night.tries), night.reason)


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%MZ")


def _local(moment: float, timetable: Timetable) -> str:
    return datetime.fromtimestamp(moment, ZoneInfo(timetable.zone)).strftime("%Y-%m-%d %H:%M %z")
