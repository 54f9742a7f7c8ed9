"""What `metafuse init` does: a first recipe is written and looked at as `plan` would."""

import time
from dataclasses import replace
from pathlib import Path

from cluster.errors import ClusterError
from fusion.errors import FusionError
from jobs.commands.first_recipe import Wanted, draft_recipe
from jobs.console.figures import plural
from jobs.console.show import show, warn
from jobs.errors import JobError, OutputError
from jobs.recipes.draft import Draft, format_draft
from jobs.recipes.recipe import located, parse_recipe
from jobs.run.checks import check_output
from jobs.run.prepare import prepare

STDOUT = "-"


def write_first_recipe(wanted: Wanted, target: str) -> int:
    """`metafuse init`: writes to the file `target`, or to stdout for "-".

    Raises:
        OutputError: the file exists, or cannot be written.
        NoCandidatesError, ModelError, DataError: as `draft_recipe` says.
    """
    path = Path(target)
    if target != STDOUT and path.exists():
        raise OutputError(
            f"{target} exists; it was not written over",
            "name another file with --write, or - for stdout",
        )
    folder = Path.cwd() if target == STDOUT else path.absolute().parent
    draft, found = draft_recipe(wanted)
    for entry in found.skipped:
        warn(f"{entry.name} is left out: {entry.code} {entry.reason}")
    text = format_draft(_seen_from(draft, folder))
    if target == STDOUT:
        show(text.rstrip("\n"))
    else:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{target}: {error.strerror}", "name another with --write") from None
        count = plural(len(found.candidates), "candidate")
        show(f"wrote {target}: {draft.kind}, {count}")
    if not draft.data:
        warn("task.data is yet to be named: labelled examples that no candidate was trained on")
    else:
        _warn_as_plan(text, folder)
    if target != STDOUT:
        show(f"next: look at it, then: metafuse plan {target}")
    return 0


def _seen_from(draft: Draft, folder: Path) -> Draft:
    """The draft with places that a recipe in that folder understands."""
    here = str(Path.cwd())
    if str(folder) == here:
        return draft
    return replace(
        draft,
        candidates=[located(each, here) for each in draft.candidates],
        data=[located(each, here) for each in draft.data],
        base=draft.base and located(draft.base, here),
        output=located(draft.output, here),
    )


def _warn_as_plan(text: str, folder: Path) -> None:
    """What `plan` would refuse about the recipe as it is, as a warning: a person can mend it."""
    try:
        recipe = parse_recipe(text, name="recipe", folder=str(folder))
        check_output(recipe)
        prepare(recipe, clock=time.time)
    except (ClusterError, FusionError, JobError) as error:
        said = f"plan refuses the recipe as it is: {error.code} {error}"
        warn("\n".join([*said.splitlines(), *filter(None, [error.hint])]).replace("\n", "\n  "))
