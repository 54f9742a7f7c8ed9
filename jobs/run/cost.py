"""What a run will read, write, need and cost, from headers alone."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.stores.open_store import open_store
from cluster.workers.process_memory import peak_bytes
from fusion.checkpoints.checkpoint import Checkpoint, num_bytes, num_parameters
from fusion.evidence.weights import uniform_weights
from fusion.plans.method_specs import COPY
from fusion.plans.plan import MergePlan
from jobs.evaluate.needs import evaluation_disk, evaluation_memory
from jobs.merge.fuse import plan_wish
from jobs.merge.libraries import expected_bytes
from jobs.merge.memory import fit_worker
from jobs.merge.source_digests import find_digests
from jobs.recipes.recipe import Recipe
from jobs.run.checks import is_small, most_kept
from jobs.run.prepare import Prepared

# S3 list prices in us-east-1, US dollars; of 2026-11, not binding.
PUT_DOLLARS = 5e-6
GET_DOLLARS = 0.4e-6
MONTH_DOLLARS_PER_BYTE = 0.023e-9
# Rates for the estimate of time; the real ones depend on the machine by a factor of three or so.
CPU_FLOPS = 2e10  # small encoders in float32, one core
GPU_FLOPS = 2e13
LOCAL_RATE = 1e9  # bytes a second, read and written, of all merge workers of one disk
REMOTE_RATE = 0.2e9  # of one merge worker or evaluation
START_SECONDS = 10.0  # Ray, and the imports of the first evaluation


@dataclass(frozen=True, slots=True)
class RunCost:
    """A planned run in figures. Bytes are of tensors.

    Attributes:
        num_candidates: number of usable candidates.
        num_tensors: number of tensors of the output.
        num_parameters: number of parameters of one candidate.
        evaluate_bytes: bytes read to evaluate all candidates once on rank and once on gate.
        read_bytes: bytes that the merge reads, baseline included.
        write_bytes: bytes that the merge writes, baseline included.
        kept_bytes: bytes that stay in the output.
        num_gets: number of ranged reads of the merge.
        num_puts: number of parts and records that the merge writes.
        dollars: price in US dollars of `num_gets` and `num_puts` requests.
        month_dollars: price in US dollars of keeping the output for a month.
        merge_memory_bytes: largest memory of one merge worker's process, imports included; of the
            whole command, where the merge is small and runs in its threads.
        evaluate_memory_bytes: memory of one evaluation, data included.
        evaluate_disk_bytes: disk space of one evaluation: config and tokenizer, no tensors.
        evaluate_seconds: about how long it takes to score all candidates on rank and gate and the
            results on gate.
        merge_seconds: about how long the merge takes, baseline included.
        plan: id of the merge plan with equal weights.
        dtype: dtype of the output.
        num_sources: number of source files that the merge reads.
        num_checked: number of those of them whose digest is known, to compare with what arrives.
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
    evaluate_disk_bytes: int
    evaluate_seconds: float
    merge_seconds: float
    plan: str
    dtype: str
    num_sources: int
    num_checked: int


def plan_run(recipe: Recipe, prepared: Prepared) -> RunCost:
    """Price a run before anything is paid. Weights are not known yet; they change no byte count."""
    candidates = most_kept(prepared.candidates, recipe)
    even = uniform_weights(len(candidates))
    plan = plan_wish(candidates, even, recipe.merge.wish)
    copies = 2 if recipe.baselines else 1
    memory = fit_worker(plan, recipe.output, recipe.resources.merge.memory_bytes)
    gets = plan.num_reads(memory.chunk_bytes) * copies
    puts = 2 * len(plan.units) * copies
    dtypes = sorted({t.dtype for t in plan.request.tensors if t.method != COPY})
    return RunCost(
        num_candidates=len(prepared.candidates),
        num_tensors=len(plan.request.tensors),
        num_parameters=num_parameters(candidates[0]),
        evaluate_bytes=2 * sum(map(num_bytes, prepared.candidates)),
        read_bytes=plan.read_bytes * copies,
        write_bytes=plan.write_bytes * copies,
        kept_bytes=plan.write_bytes,
        num_gets=gets,
        num_puts=puts,
        dollars=gets * GET_DOLLARS + puts * PUT_DOLLARS,
        month_dollars=plan.write_bytes * MONTH_DOLLARS_PER_BYTE,
        merge_memory_bytes=_merge_memory(recipe, candidates, plan),
        evaluate_memory_bytes=max(evaluation_memory(c, prepared.data) for c in prepared.candidates),
        evaluate_disk_bytes=max(map(evaluation_disk, prepared.candidates)),
        evaluate_seconds=_evaluate_seconds(recipe, prepared, copies),
        merge_seconds=_merge_seconds(recipe, candidates, plan, copies),
        plan=plan.id,
        dtype=", ".join(dtypes),
        num_sources=sum(len(c.shards) for c in plan.request.checkpoints),
        num_checked=len(find_digests(plan)),
    )


def _evaluate_seconds(recipe: Recipe, prepared: Prepared, copies: int) -> float:
    """Loading and two floating operations a parameter and token, shared by the workers."""
    wanted = recipe.resources.evaluate
    cores = os.cpu_count() or 1
    workers = wanted.workers or max(1, int(cores / wanted.num_cpus))
    flops = GPU_FLOPS * wanted.num_gpus if wanted.num_gpus else CPU_FLOPS * wanted.num_cpus
    needs = [
        num_bytes(c) / _rate(c.uri) + 2.0 * num_parameters(c) * prepared.num_tokens / flops
        for c in prepared.candidates
    ]
    # The fused model and the baselines are evaluated too, on the gate slice.
    total = sum(needs) + copies * max(needs)
    return START_SECONDS + max(total / workers, max(needs))


def _merge_memory(recipe: Recipe, candidates: Sequence[Checkpoint], plan: MergePlan) -> int:
    """An upper bound on a machine like this one."""
    wanted = recipe.resources.merge
    # What `plan` has prepared so far, the command that merges in its threads prepares as well.
    before, threads = 0, 1
    if is_small(candidates):
        before, threads = peak_bytes(), wanted.workers or os.cpu_count() or 1
    memory = fit_worker(plan, recipe.output, wanted.memory_bytes * threads, threads=threads)
    return expected_bytes(memory, before=before, with_ray=True)


def _merge_seconds(
    recipe: Recipe, candidates: Sequence[Checkpoint], plan: MergePlan, copies: int
) -> float:
    workers = recipe.resources.merge.workers or os.cpu_count() or 1
    rates = [_rate(uri) for uri in (recipe.output, *(c.uri for c in candidates))]
    slowest = min(rates)
    rate = slowest * workers if slowest == REMOTE_RATE else slowest
    return math.ceil(copies * (plan.read_bytes + plan.write_bytes) / rate)


def _rate(uri: str) -> float:
    return REMOTE_RATE if open_store(uri).is_remote else LOCAL_RATE
