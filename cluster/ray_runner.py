"""Work on Ray: plain tasks for evaluations, a pool of actors for the merge.

Ray carries orders and small answers, never tensors. Plain retried tasks can hang for minutes when a
host goes silent; the pool has its own deadline a unit and does late units elsewhere.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A connection that went silent is noticed after 20 s; by Ray's defaults it takes 7 minutes.
os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", "10000")
os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", "10000")

import ray
from ray.exceptions import RayError, TaskCancelledError

from cluster import ray_pool
from cluster.errors import RunnerError
from cluster.pool import Patience, find_room
from cluster.ray_address import check_reachable, close_token_file
from cluster.ray_pool import POLL_SECONDS, cause, find_nodes, ray_options, timed
from cluster.runner import Done, Item, Resources, Result

OBJECT_STORE_BYTES = 256 << 20
LOST_HOST_RETRIES = 2
NAMESPACE = "metafuse"
AUTHENTICATION_LOGGER = "ray._private.authentication.authentication_token_setup"


class RayRunner:
    """Runs on an embedded Ray (address None) or on a cluster that is already there."""

    def __init__(self, address: str | None = None, *, patience: Patience | None = None) -> None:
        """Start or join Ray.

        Raises:
            RunnerError: the cluster does not answer.
        """
        self._patience = patience or Patience()
        self._is_ours = not ray.is_initialized()
        if not self._is_ours:
            return
        common: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "logging_level": "error",
            "configure_logging": False,
        }
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                # Token authentication is what we want here; Ray warns that it is on.
                logging.getLogger(AUTHENTICATION_LOGGER).setLevel(logging.ERROR)
                # Never a bare ray.init(): it joins whatever Ray runs on the machine.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **common,
                )
                close_token_file()
            else:
                check_reachable(address)
                ray.init(address=address, **common)
        except (ConnectionError, RuntimeError, RayError, ValueError) as error:
            raise RunnerError(
                f"Ray at {address or 'this machine'} does not answer: {str(error).splitlines()[0]}",
                "check --address and RAY_AUTH_TOKEN_PATH, then run the same command again",
            ) from None
        if threading.current_thread() is threading.main_thread():
            # Ray ends the process on SIGTERM with a status of its own.
            signal.signal(signal.SIGTERM, on_terminate)

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        _check_feasible(resources)
        # A task that waits for a place would use up its time limit.
        workers = min(max(1, workers), _capacity(resources))
        task = ray.remote(timed).options(
            max_retries=LOST_HOST_RETRIES, retry_exceptions=False, **ray_options(resources)
        )
        todo = list(reversed(range(len(items))))
        running: dict[Any, tuple[int, float]] = {}
        try:
            while todo or running:
                while todo and len(running) < workers:
                    index = todo.pop()
                    running[task.remote(function, items[index])] = (index, time.monotonic())
                ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in ready:
                    index, started = running.pop(reference)
                    yield _collect(reference, index, started)
                yield from _cancel_late(running, resources.limit_seconds)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        if not items:
            return
        _check_feasible(resources)
        yield from ray_pool.run_pool(
            make_worker, items, resources=resources, workers=workers, patience=self._patience
        )

    def close(self) -> None:
        if self._is_ours and ray.is_initialized():
            ray.shutdown()


def _check_feasible(resources: Resources) -> None:
    """An infeasible request would wait for ever without an error."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
    asked["memory"] = resources.memory_bytes
    if any(all(node.get(k, 0) >= v for k, v in asked.items()) for node in there):
        return
    most = {k: max((node.get(k, 0) for node in there), default=0) for k in asked}
    raise RunnerError(
        f"no node of the cluster has what one task asks for: {asked}; the most there is: {most}",
        "lower resources in the recipe, or add a larger node",
    )


def _collect(reference: Any, index: int, started: float) -> Done[Any]:
    try:
        value, seconds, worker = ray.get(reference)
    except TaskCancelledError:
        stopped = RunnerError("the task was cancelled")
        return Done(index, None, stopped, time.monotonic() - started, "")
    except RayError as error:
        return Done(index, None, cause(error), time.monotonic() - started, "")
    return Done(index, value, None, seconds, worker)


def _cancel_late(running: dict[Any, tuple[int, float]], limit: float | None) -> Iterator[Done[Any]]:
    now = time.monotonic()
    for reference, (index, started) in list(running.items()):
        if limit is not None and now - started > limit:
            ray.cancel(reference, force=True)
            del running[reference]
            error = RunnerError(f"took longer than its limit of {limit:g} s and was stopped")
            yield Done(index, None, error, now - started, "")


def _capacity(resources: Resources) -> int:
    return max(1, sum(find_room(find_nodes(), resources).values()))
