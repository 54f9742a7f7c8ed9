"""What `metafuse gc` does and shows."""

import time
from dataclasses import dataclass
from pathlib import Path

from cluster.stores.open_store import open_store
from jobs.console.show import show, show_json
from jobs.console.sizes import format_size, parse_age
from jobs.notify.follow_up import keep_history_of
from jobs.operate.gc import GcPlan, Leftover, collect, plan_gc
from jobs.outputs.open_output import open_output

USUAL_KEEP = 3
USUAL_AGE_SECONDS = 7 * 86400.0
RECIPES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What stays in which output, and whether the operator vouches that it has one writer only."""

    output: str
    keep: int
    older_than_seconds: float
    single_writer: bool


def find_sweep(
    target: str, keep: int | None, older_than: str | None, *, single_writer: bool
) -> Sweep:
    """What is to be kept where: flags, else the recipe's retention, else the usual.

    Args:
        target: an output, or a recipe (`.yaml`, `.yml`) that names one.
        keep: value of --keep; None where the flag was not given.
        older_than: value of --older-than; None where the flag was not given.
        single_writer: value of --single-writer.

    Raises:
        RecipeError: mistakes in the recipe.
        UsageError: `older_than` is no age.
    """
    age = None if older_than is None else parse_age(older_than, option="--older-than")
    if target.endswith(RECIPES):
        from jobs.recipes.recipe import load_recipe

        recipe = load_recipe(Path(target))
        return Sweep(
            output=recipe.output,
            keep=recipe.retention.keep if keep is None else keep,
            older_than_seconds=recipe.retention.older_than_seconds if age is None else age,
            single_writer=single_writer or recipe.single_writer,
        )
    return Sweep(
        output=target,
        keep=USUAL_KEEP if keep is None else keep,
        older_than_seconds=USUAL_AGE_SECONDS if age is None else age,
        single_writer=single_writer,
    )


def run_gc(wanted: Sweep, *, reason: str, is_dry_run: bool, as_json: bool) -> int:
    """`metafuse gc`."""
    keep, age, now = wanted.keep, wanted.older_than_seconds, time.time()
    if is_dry_run:
        plan = plan_gc(open_store(wanted.output), keep=keep, older_than_seconds=age, now=now)
    else:
        store = open_output(wanted.output, single_writer=wanted.single_writer).store
        plan = collect(store, keep=keep, older_than_seconds=age, now=now, reason=reason)
        if plan.leftovers or plan.abandoned:
            keep_history_of(wanted.output)
    if as_json:
        show_json({
            "is_dry_run": is_dry_run, "output": wanted.output, "keep": keep,
            "older_than_seconds": age, "num_bytes": plan.num_bytes,
            "leftovers": [_plain(leftover) for leftover in plan.leftovers],
            "abandoned": list(plan.abandoned), "kept": [list(entry) for entry in plan.kept],
        })  # fmt: skip
        return 0
    _show(plan, "would remove" if is_dry_run else "removed")
    return 0


def _show(plan: GcPlan, verb: str) -> None:
    for leftover in plan.leftovers:
        size = format_size(leftover.num_bytes)
        show(f"{leftover.kind:9}{size:>9}  {leftover.place}  {leftover.reason}")
    for run in plan.abandoned:
        show(f"abandoned           {run}: unfinished and not touched for long")
    for run, why in plan.kept:
        show(f"kept                {run}: {why}")
    show(f"{verb} {len(plan.leftovers)} things, {format_size(plan.num_bytes)}")


def _plain(leftover: Leftover) -> dict[str, object]:
    return {
        "kind": leftover.kind, "run": leftover.run, "place": leftover.place,
        "reason": leftover.reason, "num_bytes": leftover.num_bytes,
        "num_objects": len(leftover.keys),
        "upload": leftover.upload.id if leftover.upload else None,
    }  # fmt: skip
