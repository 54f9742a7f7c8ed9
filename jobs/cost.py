"""What a run will read, write, need and cost, from headers alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.checkpoint import Checkpoint, num_bytes, num_parameters
from fusion.plan import linear_request, plan_merge
from fusion.weights import uniform_weights
from jobs.merge_memory import fit_worker
from jobs.preparation import EVALUATION_FACTOR, EVALUATION_FLOOR, Prepared
from jobs.recipe import Recipe

# S3 list prices in us-east-1, US dollars; of 2026-11, not binding.
PUT_DOLLARS = 5e-6
GET_DOLLARS = 0.4e-6
MONTH_DOLLARS_PER_BYTE = 0.023e-9


@dataclass(frozen=True, slots=True)
class RunCost:
    """A planned run in figures. Bytes are of tensors.

    Attributes:
        num_candidates: usable ones.
        num_tensors: of the output.
        num_parameters: of one candidate.
        evaluate_bytes: read to evaluate all candidates once on rank and once on gate.
        read_bytes: by the merge, baseline included.
        write_bytes: by the merge, baseline included.
        kept_bytes: that stay in the output.
        num_gets: ranged reads of the merge.
        num_puts: parts and records.
        dollars: of these requests.
        month_dollars: of keeping the output for a month.
        merge_memory_bytes: of one merge worker's process at most, imports included.
        evaluate_memory_bytes: of one evaluation, about.
        plan: id of the merge plan with equal weights.
        dtype: of the output.
    """

    num_candidates: int
    num_tensors: int
    num_parameters: int
    evaluate_bytes: int
    read_bytes: int
    write_bytes: int
    kept_bytes: int
    num_gets: int
    num_puts: int
    dollars: float
    month_dollars: float
    merge_memory_bytes: int
    evaluate_memory_bytes: int
    plan: str
    dtype: str


def plan_run(recipe: Recipe, prepared: Prepared) -> RunCost:
    """Price a run before anything is paid. Weights are not known yet; they change no byte count."""
    candidates = _most_kept(prepared.candidates, recipe)
    request = linear_request(candidates, uniform_weights(len(candidates)), dtype=recipe.merge.dtype)
    plan = plan_merge(request)
    copies = 2 if recipe.baselines else 1
    memory = fit_worker(plan, recipe.output, recipe.resources.merge.memory_bytes)
    gets = plan.num_reads(memory.chunk_bytes) * copies
    puts = 2 * len(plan.units) * copies
    dtypes = sorted({t.dtype for t in plan.request.tensors if t.method != "copy"})
    return RunCost(
        num_candidates=len(prepared.candidates),
        num_tensors=len(request.tensors),
        num_parameters=num_parameters(candidates[0]),
        evaluate_bytes=2 * sum(map(num_bytes, prepared.candidates)),
        read_bytes=plan.read_bytes * copies,
        write_bytes=plan.write_bytes * copies,
        kept_bytes=plan.write_bytes,
        num_gets=gets,
        num_puts=puts,
        dollars=gets * GET_DOLLARS + puts * PUT_DOLLARS,
        month_dollars=plan.write_bytes * MONTH_DOLLARS_PER_BYTE,
        merge_memory_bytes=memory.total_bytes,
        evaluate_memory_bytes=EVALUATION_FLOOR
        + int(max(map(num_bytes, prepared.candidates)) * EVALUATION_FACTOR),
        plan=plan.id,
        dtype=", ".join(dtypes),
    )


def _most_kept(candidates: Sequence[Checkpoint], recipe: Recipe) -> Sequence[Checkpoint]:
    keep = recipe.select.keep
    return candidates if keep is None else candidates[:keep]
