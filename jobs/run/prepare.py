"""Everything a run knows before it evaluates: candidates that agree, pinned data, what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fusion.checkpoints.agreement import check_agree
from fusion.checkpoints.checkpoint import (
    Checkpoint,
    Pin,
    describe_kind,
    group_candidates,
    num_bytes,
    num_parameters,
)
from fusion.errors import MismatchError
from fusion.evidence.selection import SelectRules, find_excess
from fusion.evidence.weights import fixed_weights
from fusion.nearest import ask_meant
from fusion.plans.adapter_request import check_one_base
from fusion.scores.contract import Head, TaskSpec
from jobs.candidates.copies import drop_copies
from jobs.candidates.find import MOST_PASSED, Found, drop_mismatched, find_candidates
from jobs.candidates.heads import check_head, drop_contradicting
from jobs.candidates.skipped import Skipped, describe_skipped, settle_advice
from jobs.candidates.tokenizers import check_tokenizer
from jobs.console.figures import list_some, plural
from jobs.errors import (
    IncompleteError,
    MemoryNeedError,
    ModelError,
    NoCandidatesError,
    RecipeError,
    TooFewError,
)
from jobs.evaluate.needs import DataSize, evaluation_memory, measure_data
from jobs.models.lengths import count_longest, estimate_tokens
from jobs.outputs.run_folder import runs_of
from jobs.recipes.blocks import Select
from jobs.recipes.recipe import Recipe
from jobs.recipes.task_fields import fill_columns, find_mistake
from jobs.run.checks import check_data, check_merge, check_models
from jobs.run.names import RESERVED
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import Examples
from jobs.tasks.data_files import find_data, find_passed
from jobs.tasks.examples import load_examples
from jobs.tasks.find_task import find_task
from jobs.tasks.slicing import Slices

# Tokens that are counted of a text at most, where the recipe does not say.
USUAL_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run starts from.

    Attributes:
        candidates: candidates that agree with each other.
        skipped: candidates that were found but are not usable.
        task: task with the evaluation data pinned.
        examples: the evaluation data.
        num_tokens: about how many tokens the rank and gate slices have together.
        base: base of candidates that are adapters; None where no base was named.
        data: how large the evaluation data is in memory.
        remarks: what is odd about the candidates without being wrong, for people.
    """

    candidates: tuple[Checkpoint, ...]
    skipped: tuple[Skipped, ...]
    task: EvaluationTask
    examples: Examples
    num_tokens: int
    base: Checkpoint | None
    data: DataSize
    remarks: tuple[str, ...]

    @property
    def slices(self) -> Slices:
        """Slices of the evaluation data."""
        return self.examples.sliced


def prepare(recipe: Recipe, *, clock: Callable[[], float]) -> Prepared:
    """Find, pin and compare the candidates and pin the data; no tensor byte is read.

    Raises:
        MismatchError: the candidates cannot be averaged.
        TooFewError: there are fewer usable candidates than `min_candidates`.
        MemoryNeedError: a candidate does not fit into `resources.evaluate.memory`.
        ModelError: a candidate is not a model for such a task, or lacks its tokenizer.
        DataError: there is no evaluation data, or its truths mean nothing to the models.
        WeightError: the fixed weights do not fit the candidates.
    """
    found = find_usable(recipe, clock=clock)
    check_models(found.candidates, find_task(recipe.task.kind).spec.head)
    task = make_task(recipe)
    examples = load_examples(task)
    check_data(found.candidates, task, examples)
    for candidate in found.candidates:
        check_tokenizer(candidate, found.vocabularies[candidate.name])
    check_merge(found.candidates, recipe)
    data = size_of(examples, task, found.candidates[0])
    check_memory(found.candidates, recipe.resources.evaluate.memory_bytes, data=data)
    check_weights(found, recipe)
    num_tokens = count_tokens(examples, task)
    return Prepared(
        candidates=found.candidates,
        skipped=found.skipped,
        task=task,
        examples=examples,
        num_tokens=num_tokens,
        base=found.base,
        data=data,
        remarks=(*found.remarks, *describe_passed(recipe, task)),
    )


def describe_passed(recipe: Recipe, task: EvaluationTask) -> tuple[str, ...]:
    """One line about files beside the data that are not read; none where all are."""
    passed = find_passed(recipe.task.data, task.files)
    if not passed:
        return ()
    listed = list_some(passed, MOST_PASSED)
    return (f"task.data: not read, as no data by their names: {listed}",)


def find_usable(recipe: Recipe, *, clock: Callable[[], float]) -> Found:
    """Candidates that agree with each other, enough of them; the others are skipped by name.

    Raises:
        MismatchError: the candidates cannot be averaged.
        TooFewError: there are fewer usable candidates than `min_candidates`.
    """
    try:
        found = find_candidates(
            recipe.candidates,
            settle_seconds=recipe.select.settle_seconds,
            now=clock(),
            on_refused=recipe.select.on_refused,
            base=recipe.base,
            output=runs_of(recipe.output),
        )
    except NoCandidatesError as error:
        raise NoCandidatesError(
            str(error),
            "check the paths under candidates: relative ones begin at the recipe's folder, and a "
            "checkpoint is a folder with .safetensors files",
        ) from None
    taken = [c.name for c in found.candidates if c.name in RESERVED]
    if taken:
        raise RecipeError(
            f"a candidate cannot be called {taken[0]}: that is the name of a model of the run",
            "rename its folder",
        )
    found = drop_contradicting(drop_unconfigured(drop_too_large(found, recipe.select)))
    if recipe.select.on_mismatch == "drop":
        found = drop_other_heads(found, find_task(recipe.task.kind).spec.head)
    found = check_candidates(found, recipe)
    if recipe.weights.rule != "fixed":  # weights that were given by name stay as they were meant
        found = drop_copies(found)
    check_count(
        [candidate.name for candidate in found.candidates],
        found.skipped,
        recipe.select.min_candidates,
    )
    return found


def drop_too_large(found: Found, select: Select) -> Found:
    """Candidates within the recipe's limits; the others are skipped, and never evaluated."""
    rules = SelectRules(max_parameters=select.max_parameters, max_bytes=select.max_bytes)
    excess = {c.name: find_excess(num_parameters(c), num_bytes(c), rules) for c in found.candidates}
    kept = tuple(c for c in found.candidates if not excess[c.name])
    dropped = tuple(
        Skipped(c.name, c.uri, "too large:", excess[c.name])
        for c in found.candidates
        if excess[c.name]
    )
    return replace(found, candidates=kept, skipped=found.skipped + dropped)


def drop_unconfigured(found: Found) -> Found:
    """Leave out what has no config.json where others have one: its copy is not complete."""
    lacking = [c for c in found.candidates if c.adapter is None and not c.config]
    others = len(found.candidates) - len(lacking)
    if not lacking or not others:
        return found
    dropped = tuple(
        Skipped(
            c.name,
            c.uri,
            IncompleteError.code,
            f"{c.name} has no config.json, {others} others have one{_find_case(c)}",
            hint="copy it there from where it was saved",
        )
        for c in lacking
    )
    kept = tuple(c for c in found.candidates if c.adapter is not None or c.config)
    return replace(found, candidates=kept, skipped=found.skipped + dropped)


def _find_case(candidate: Checkpoint) -> str:
    """Another spelling of config.json that is there; "" for none."""
    names = [entry.name for entry in candidate.left_behind]
    near = next((name for name in names if name.lower() == "config.json"), "")
    return f"; {near} is there, whose name differs in its case" if near else ""


def drop_other_heads(found: Found, head: Head) -> Found:
    """Leave out models that are for another kind of task, unless all of them are."""
    others = {}
    for candidate in found.candidates:
        try:
            check_head(candidate, head)
        except ModelError as error:
            others[candidate.name] = Skipped(
                candidate.name, candidate.uri, error.code, str(error), hint=error.hint
            )
    if len(others) == len(found.candidates):
        return found
    kept = tuple(c for c in found.candidates if c.name not in others)
    return replace(found, candidates=kept, skipped=(*found.skipped, *others.values()))


def check_weights(found: Found, recipe: Recipe) -> None:
    """Compare the names under `weights.values` with those of the candidates.

    Raises:
        WeightError: a candidate without a weight, or a weight without a candidate.
    """
    if recipe.weights.rule == "fixed":
        skipped = {entry.name for entry in found.skipped}
        values = {k: v for k, v in recipe.weights.values.items() if k not in skipped}
        fixed_weights([candidate.name for candidate in found.candidates], values)


def check_candidates(found: Found, recipe: Recipe) -> Found:
    """Candidates that can be averaged with each other.

    Raises:
        MismatchError: the candidates differ, and `select.on_mismatch` is stop.
    """
    if recipe.select.on_mismatch == "drop":
        found = drop_mismatched(found, cast=recipe.merge.dtype is not None)
    groups = group_candidates(found.candidates)
    if len(groups) > 1:
        lines = [
            f"  {describe_kind(group[0])}: {', '.join(c.name for c in group)}" for group in groups
        ]
        raise MismatchError(
            f"the candidates are {len(groups)} kinds of models, which have no common average:\n"
            + "\n".join(lines)
            + "\nNo tensor data was read.",
            "give each kind a recipe of its own",
            "E-KINDS",
        )
    if recipe.merge.output == "adapter":
        check_one_base(found.candidates)
    if found.candidates:
        check_agree(
            found.candidates,
            cast=recipe.merge.dtype is not None,
            vocabularies=found.vocabularies,
        )
    return found


def check_count(names: Sequence[str], left_out: Sequence[Skipped], needed: int) -> None:
    """Refuse to go on with too few.

    Raises:
        TooFewError: lists why each of the others is out.
    """
    if len(names) >= needed:
        return
    lines = [f"  {entry.name}: {describe_skipped(entry)}" for entry in left_out]
    raise TooFewError(
        f"{plural(len(names), 'usable candidate')}, min_candidates is {needed}\n"
        + "\n".join(lines)
        + ("\n" if lines else "")
        + "Nothing was merged.",
        _find_wait(left_out) or "mend or add candidates, or lower select.min_candidates",
    )


def _find_wait(left_out: Sequence[Skipped]) -> str:
    """What to do where all that is left out has yet to settle; "" for anything else."""
    waits = [entry.wait_seconds for entry in left_out]
    return settle_advice(max(waits)) if waits and min(waits) > 0 else ""


def check_memory(candidates: Sequence[Checkpoint], allowed: int | None, *, data: DataSize) -> None:
    """Refuse candidates that an evaluation could not load.

    Raises:
        MemoryNeedError: names the bytes needed and allowed.
    """
    if allowed is None:
        return
    needs = {c.name: evaluation_memory(c, data) for c in candidates}
    name, most = max(needs.items(), key=lambda entry: entry[1], default=("", 0))
    if most > allowed:
        raise MemoryNeedError(
            f"evaluating {name} needs about {most:,} bytes, resources.evaluate.memory allows "
            f"{allowed:,}; nothing was evaluated",
            "raise resources.evaluate.memory",
        )


def count_tokens(examples: Examples, task: EvaluationTask) -> int:
    """Tokens of the rank and gate slices, about."""
    return sum(
        min(estimate_tokens(len(text)), task.max_length or USUAL_LENGTH)
        for text, slice_name in zip(examples.texts, examples.slices, strict=True)
        if slice_name in ("rank", "gate")
    )


def size_of(examples: Examples, task: EvaluationTask, reader: Checkpoint) -> DataSize:
    """How large the evaluation data is for a process in which such a model reads it."""
    return measure_data(
        examples.texts,
        file_bytes=task.pin.size,
        batch_size=task.batch_size,
        longest=count_longest(reader, examples.inputs, task.max_length),
    )


def make_task(recipe: Recipe, *, pin: Pin | None = None) -> EvaluationTask:
    """The recipe's task with its data pinned, now or (`pin`) earlier.

    Raises:
        RecipeError: a kind of the user's own that cannot be imported, or has no such columns or
            metrics.
    """
    task = recipe.task
    spec = find_task(task.kind).spec
    check_own_kind(recipe, spec)
    columns = fill_columns(spec, task.columns)
    named = {role: column for role in spec.columns if (column := columns.get(role)) is not None}
    found = find_data(task.data, pin=pin)
    return EvaluationTask(
        kind=task.kind,
        data=found.data,
        pin=found.pin,
        columns=named,
        id=columns["id"] or "",
        cluster=columns["cluster"] or "",
        shares=task.slices.model_dump(),
        batch_size=task.batch_size,
        max_length=task.max_length,
        labels=task.labels,
        version=spec.version,
        files=found.files,
    )


def check_own_kind(recipe: Recipe, spec: TaskSpec) -> None:
    """What a recipe says of a kind that was not known when it was read.

    Raises:
        RecipeError: columns or guards that the kind does not have.
    """
    mistake = find_mistake(spec, recipe.task.columns)
    if mistake is not None:
        raise RecipeError(f"task.columns.{mistake[0]}: {mistake[1]}; nothing was evaluated")
    unknown = [guard.metric for guard in recipe.gate.guards if guard.metric not in spec.guards]
    if unknown:
        known = " or ".join(spec.guards) or "none, as the kind has no metrics for guards"
        raise RecipeError(
            f"gate.guards: expected {known}, found {unknown[0]!r}; nothing was evaluated"
            f"{ask_meant(unknown[0], spec.guards)}"
        )
