"""One question to every host of a Ray cluster, answered there."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.ray.nodes import find_nodes
from cluster.ray.runner import RayRunner
from cluster.workers.board import Node
from cluster.workers.runner import Item, Result

ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NodeAnswer(Generic[Result]):
    """What one host said.

    Attributes:
        node: the host that was asked.
        value: the host's answer; None where it gave none.
        problem: why the host gave no answer; "" where it answered.
    """

    node: Node
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
        address: address of the cluster, as a driver joins it.
        ask: picklable function that every host calls.
        item: argument of `ask`.
        limit_seconds: seconds for all answers, the start of a worker on each host included.

    Raises:
        RunnerError: the cluster does not answer.
    """
    with closing(RayRunner(address)):
        nodes = sorted(find_nodes(), key=lambda node: node.id)
        asked = {_start(ask, item, node): node for node in nodes}
        until = time.monotonic() + limit_seconds
        waiting = list(asked)
        while waiting and time.monotonic() < until:
            _, waiting = ray.wait(waiting, timeout=1.0)
        return tuple(
            _answer(reference, node, limit_seconds, is_late=reference in waiting)
            for reference, node in asked.items()
        )


def _start(ask: Callable[[Any], Any], item: Any, node: Node) -> Any:
    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    task = ray.remote(ask).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
    return task.remote(item)


def _answer(reference: Any, node: Node, limit_seconds: float, *, is_late: bool) -> NodeAnswer[Any]:
    value, problem = None, ""
    if is_late:
        problem = f"no answer in {limit_seconds:g} s"
        ray.cancel(reference, force=True)
    else:
        try:
            value = ray.get(reference)
        except RayError as error:
            problem = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return NodeAnswer(node, value, problem)
