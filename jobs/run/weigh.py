"""From scores to weights: which candidates enter the average, how much, frozen once chosen."""

from dataclasses import dataclass

from cluster.errors import PreconditionError
from fusion.canonical import to_json
from fusion.checkpoints.checkpoint import num_bytes, num_parameters
from fusion.evidence.selection import Choice, Measured, SelectRules, choose, describe_guess
from fusion.evidence.weights import fixed_weights, softmax_weights, uniform_weights
from jobs.candidates.skipped import Skipped
from jobs.evaluate.score import ScoreBook
from jobs.outputs.keys import WEIGHTS_KEY
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.stored import read_stored
from jobs.recipes.blocks import Weights
from jobs.run.context import RunContext
from jobs.run.prepare import check_count
from jobs.tasks.find_task import find_task


@dataclass(frozen=True, slots=True)
class ChosenWeights:
    """`weights.json`: decided once; a resumed run reads it.

    Attributes:
        names: names of the candidates in the average, in name order.
        weights: weight of each name, of sum 1.
        rule: how the weights were made, for people.
        choices: what became of every evaluated candidate.
        best: name of the candidate in the average with the lowest loss on the rank slice.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    rule: str
    choices: tuple[Choice, ...]
    best: str


def rank_candidates(context: RunContext) -> ScoreBook:
    """Score every candidate on the rank slice."""
    with context.timed("evaluate"):
        return context.score(context.candidates, "rank")


def choose_weights(context: RunContext, ranked: ScoreBook) -> ChosenWeights:
    """Select candidates and weigh them; the first driver's answer stands.

    Raises:
        TooFewError: fewer are left than `min_candidates`.
    """
    measured, task = [], find_task(context.task.kind)
    for checkpoint in context.candidates:
        records = ranked.records.get((checkpoint.name, "rank"))
        if records is None:
            continue
        measured.append(
            Measured(
                name=checkpoint.name,
                loss=records.loss,
                num_parameters=num_parameters(checkpoint),
                num_bytes=num_bytes(checkpoint),
                health=ranked.results[checkpoint.name, "rank"].health,
                guess=describe_guess(records, task.spec, floor=task.floor(records)),
            )
        )
    select = context.recipe.select
    choices = choose(measured, SelectRules(select.keep, select.max_parameters, select.max_bytes))
    losses = {m.name: m.loss for m in measured}
    names = [choice.name for choice in choices if choice.is_kept]
    left_out = [Skipped(c.name, "", "dropped:", c.reason) for c in choices if not c.is_kept]
    left_out += [Skipped(f.name, "", f.code, f.message) for f in ranked.failures]
    check_count(names, left_out, select.min_candidates)
    weights, rule = _weigh(names, [losses[name] for name in names], context.recipe.weights)
    best = min(names, key=lambda name: (losses[name], name))
    chosen = ChosenWeights(tuple(names), weights, rule, choices, best)
    return _freeze(context.folder, chosen)


def _weigh(names: list[str], losses: list[float], wanted: Weights) -> tuple[tuple[float, ...], str]:
    if wanted.rule == "fixed":
        return fixed_weights(names, wanted.values), "fixed by the recipe"
    if wanted.rule == "uniform":
        return uniform_weights(len(names)), "uniform"
    return (
        softmax_weights(losses, temperature=wanted.temperature),
        f"softmax of minus the loss, temperature {wanted.temperature:g}",
    )


def _freeze(folder: RunFolder, chosen: ChosenWeights) -> ChosenWeights:
    key = folder.key(WEIGHTS_KEY)
    try:
        folder.store.put(key, to_json(chosen), if_absent=True)
    except PreconditionError:
        return read_stored(ChosenWeights, folder.store, key)
    return chosen
