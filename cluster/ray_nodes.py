"""One question to every host of a Ray cluster, answered there."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ray_runner import RayRunner
from cluster.runner import Item, Result

ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NodeAnswer(Generic[Result]):
    """What one host said.

    Attributes:
        host: its name or address.
        is_head: the cluster's head runs there.
        resources: what Ray may hand out there: CPU, GPU, memory in bytes ...
        value: the answer, None where none came.
        problem: why none came, "".
    """

    host: str
    is_head: bool
    resources: Mapping[str, float]
    value: Result | None
    problem: str


def ask_every_node(
    address: str,
    ask: Callable[[Item], Result],
    item: Item,
    *,
    limit_seconds: float = ANSWER_SECONDS,
) -> tuple[NodeAnswer[Result], ...]:
    """Call a function once on every living host, all at the same time, using no resources of it.

    Args:
        address: of the cluster, as a driver joins it.
        ask: picklable.
        item: its argument.
        limit_seconds: for all answers; the start of a worker is in it.

    Raises:
        RunnerError: the cluster does not answer.
    """
    with closing(RayRunner(address)):
        nodes = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: str(n["NodeID"]))
        asked = {_start(ask, item, node): node for node in nodes}
        until = time.monotonic() + limit_seconds
        waiting = list(asked)
        while waiting and time.monotonic() < until:
            _, waiting = ray.wait(waiting, timeout=1.0)
        return tuple(
            _answer(reference, node, limit_seconds, is_late=reference in waiting)
            for reference, node in asked.items()
        )


def _start(ask: Callable[[Any], Any], item: Any, node: Mapping[str, Any]) -> Any:
    place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(ask).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
    return task.remote(item)


def _answer(
    reference: Any, node: Mapping[str, Any], limit_seconds: float, *, is_late: bool
) -> NodeAnswer[Any]:
    value, problem = None, ""
    if is_late:
        problem = f"no answer in {limit_seconds:g} s"
        ray.cancel(reference, force=True)
    else:
        try:
            value = ray.get(reference)
        except RayError as error:
            problem = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    there = dict(node["Resources"])
    is_head = "node:__internal_head__" in there
    return NodeAnswer(str(node["NodeManagerHostname"]), is_head, there, value, problem)
