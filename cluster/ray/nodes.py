"""Which nodes of a cluster may take a worker, and how Ray is asked for a place there."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.errors import ImportsError, RunnerError, first_line
from cluster.workers.board import Node
from cluster.workers.runner import Resources, this_worker

# For an answer that has arrived: only its host can keep it, by going away now.
ANSWER_SECONDS = 1.0
# How Ray begins the text of the only sign that a function could not be imported.
NO_IMPORT = "The remote function failed to import"
SAME_CODE = (
    "every host needs the same metafuse and its libraries; `metafuse doctor --address` looks"
)
HEAD_RESOURCE = "node:__internal_head__"


def find_nodes() -> list[Node]:
    """The living nodes of the cluster."""
    # Ray has no public call for it; its own Train asks in this way.
    draining = ray._private.state.state.get_draining_nodes()  # noqa: SLF001
    return [
        Node(
            node["NodeID"],
            node["Resources"],
            host=str(node["NodeManagerHostname"]),
            is_head=HEAD_RESOURCE in node["Resources"],
            is_draining=node["NodeID"] in draining,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def ray_options(resources: Resources) -> dict[str, Any]:
    """The options that Ray's scheduler gets."""
    options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_bytes:
        options["memory"] = resources.memory_bytes
    if resources.accelerator_type:
        options["accelerator_type"] = resources.accelerator_type
    return options


def timed(function: Callable[[Any], Any], item: Any) -> tuple[Any, float, str]:
    """The value, the seconds it took, and host/process."""
    started = time.monotonic()
    value = function(item)
    return value, time.monotonic() - started, this_worker()


def cause(error: RayError) -> Exception:
    """The exception as the function raised it, or ours for a failure of the machines."""
    if isinstance(error, RayTaskError):
        inner = error.cause
        if isinstance(inner, RuntimeError) and str(inner).startswith(NO_IMPORT):
            found = str(inner).strip().splitlines()[-1]
            return ImportsError(f"a worker cannot import the code of metafuse: {found}", SAME_CODE)
        if isinstance(inner, Exception):
            return inner
    return RunnerError(f"the worker was lost: {first_line(error)}")
