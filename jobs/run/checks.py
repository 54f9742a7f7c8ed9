"""What `plan` and `run` refuse before anything is paid: `prepare` asks all of it for both."""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import AccessError, MissingPlaceError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint, num_bytes
from fusion.evidence.gate import SMALLEST_EXAMPLES
from fusion.evidence.weights import uniform_weights
from fusion.scores.contract import Head
from jobs.candidates.find import find_places
from jobs.candidates.heads import check_head
from jobs.candidates.links import is_inside
from jobs.candidates.patterns import find_root
from jobs.errors import DataError, ModelError, RecipeError
from jobs.merge.fuse import plan_wish
from jobs.merge.memory import fit_worker
from jobs.models.offered import check_inputs, check_model
from jobs.outputs.keys import POINTER_KEY
from jobs.outputs.pointer import check_owner, read_pointer
from jobs.outputs.run_folder import runs_of
from jobs.recipes.recipe import Recipe
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import Examples, check_slices
from jobs.tasks.examples import read_truths
from jobs.tasks.find_task import find_task

# Truths of these sorts are single values, which a predictor of the one value would always meet.
SINGLE = ("label", "number")
MOST_ABSENT = 5
# Candidates that are together no larger are merged sooner than a worker has started.
SMALL_BYTES = 512 << 20


def check_output(recipe: Recipe) -> None:
    """Refuse an output that a run would not write to; nothing is made or written.

    Raises:
        RecipeError: it is, or lies in, the folder of a candidate.
        PointerError: the pointer there is another recipe's.
        MissingPlaceError, AccessError: a folder that cannot be made, or not be written.
    """
    check_apart(recipe)
    store = open_store(recipe.output)
    if not store.is_remote:
        folder = Path(store.uri).absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir():
            raise MissingPlaceError(
                f"{recipe.output}: {there} is a file; nothing was evaluated", "name a folder"
            )
        by_this_user = os.access in os.supports_effective_ids
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=by_this_user):
            raise AccessError(
                f"{recipe.output}: {there} cannot be written by this user; nothing was evaluated",
                "name a folder of your own, or mend its rights",
            )
    else:
        # A listing tells a bucket that is missing, which a look at one object does not.
        any(True for _ in store.list(POINTER_KEY))
    seen = read_pointer(store)
    if seen is not None:
        check_owner(seen.pointer, recipe.name)


def check_apart(recipe: Recipe) -> None:
    """Refuse an output that is a candidate's folder, or lies in one; nothing is read of them.

    Raises:
        RecipeError: names the candidate.
    """
    around = [each for each in recipe.candidates if is_inside(recipe.output, find_root(each))]
    places = find_places(around, output=runs_of(recipe.output))
    within = [place for place in places if is_inside(recipe.output, place)]
    if within:
        raise RecipeError(
            f"output: {recipe.output} is or lies in the folder of the candidate "
            f"{posixpath.basename(within[0])} ({within[0]}). Nothing was evaluated or written.",
            "name a folder of its own for the output",
        )


def check_models(candidates: Sequence[Checkpoint], head: Head) -> None:
    """Refuse candidates that no evaluation could load.

    Raises:
        ModelError: not a kind that is offered, another head or none, or other outputs than labels.
    """
    refused: list[ModelError] = []
    for candidate in candidates:
        try:
            check_model(candidate, head)
        except ModelError as error:
            refused.append(error)
    if refused:
        lines = "\n".join(f"  {error}" for error in refused)
        few = len(refused) == 1
        text = str(refused[0]) if few else f"{len(refused)} candidates cannot be used:\n{lines}"
        raise ModelError(text, refused[0].hint)


def check_data(candidates: Sequence[Checkpoint], task: EvaluationTask, examples: Examples) -> None:
    """Refuse data that means nothing to the models, or by which nothing could be decided.

    Raises:
        ModelError: a model does not read all inputs.
        DataError: a truth means nothing to the models, all truths are one, or a slice has too few
            clusters or examples.
    """
    spec = find_task(task.kind).spec
    for candidate in candidates:
        check_inputs(candidate, task.columns)
    # A column of texts in place of labels is told before what follows from it for the slices.
    labels = check_head(candidates[0], spec.head)
    truths = read_truths(examples, task, labels)
    check_slices(examples.sliced, task)
    if spec.columns[spec.truth] in SINGLE:
        check_variety(truths, examples, task, labels=labels)
    check_gate(examples, task)


def check_variety(
    truths: Sequence[object], examples: Examples, task: EvaluationTask, *, labels: Sequence[str]
) -> None:
    """Refuse truths that are all one: no candidate can be told from who always says that.

    Args:
        truths: what the cells mean to the models.
        examples: the evaluation data.
        task: what it is for.
        labels: labels of the models, which truths number; () where there are none.

    Raises:
        DataError: in the whole data, or on the slice that ranks the candidates.
    """
    column = task.columns[find_task(task.kind).spec.truth]
    others = [repr(label) for number, label in enumerate(labels) if number not in truths]
    absent = f", and no row has {', '.join(others[:MOST_ABSENT])}" if others else ""
    for where, rows in (("", range(len(truths))), (" of the rank slice", examples.rows("rank"))):
        seen = {truths[row] for row in rows}
        if len(rows) and len(seen) == 1:
            cells = examples.written or examples.cells
            raise DataError(
                f"{task.data}: all {len(rows):,} rows{where} have {cells[rows[0]]!r:.80} in column "
                f"{column!r}{absent}: nothing can be learnt of a model from that. Nothing was "
                "evaluated.",
                "bring examples of every class, shuffled, or name the right column under "
                "task.columns.label",
            )


def check_gate(examples: Examples, task: EvaluationTask) -> None:
    """Refuse a gate slice by which the gate could never decide.

    Raises:
        DataError: names the number of examples, and how many the file should have.
    """
    count, total = len(examples.rows("gate")), len(examples.ids)
    if count >= SMALLEST_EXAMPLES:
        return
    share = task.shares["gate"]
    raise DataError(
        f"{task.data}: {count} of {total:,} examples are in the gate slice, at least "
        f"{SMALLEST_EXAMPLES} are needed: the gate could never decide. Nothing was evaluated.",
        f"bring about {int(SMALLEST_EXAMPLES / share * 1.1):,} examples, or give task.slices.gate "
        f"more than {share:g}; metafuse evaluate scores without a gate",
    )


def check_merge(candidates: Sequence[Checkpoint], recipe: Recipe) -> None:
    """Refuse what cannot be merged as asked, or not in the memory allowed.

    Raises:
        MismatchError, MethodError: not a merge that exists.
        MemoryNeedError: a merge worker needs more than `resources.merge.memory`.
    """
    kept = most_kept(candidates, recipe)
    plan = plan_wish(kept, uniform_weights(len(kept)), recipe.merge.wish)
    fit_worker(plan, recipe.output, recipe.resources.merge.memory_bytes)


def is_small(candidates: Sequence[Checkpoint]) -> bool:
    """Whether a merge on this machine runs in the threads of the command."""
    return sum(map(num_bytes, candidates)) <= SMALL_BYTES


def most_kept(candidates: Sequence[Checkpoint], recipe: Recipe) -> Sequence[Checkpoint]:
    """As many candidates as selection keeps at most."""
    keep = recipe.select.keep
    return candidates if keep is None else candidates[:keep]
