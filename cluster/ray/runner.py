"""Work on Ray: plain tasks for evaluations, a pool of actors for the merge.

Ray carries orders and small answers, never tensors. It can hang for minutes when a host goes
silent, so tasks and pool have heartbeats and retries of their own.
"""

import inspect
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Any call after Ray has ended would start another one, with a dashboard, which nobody ends.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# A connection that went silent is noticed after 20 s; by Ray's defaults it takes 7 minutes.
os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", "10000")
os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", "10000")

import ray

from cluster.errors import ClusterError, RunnerError, first_line
from cluster.ray import pool as ray_pool
from cluster.ray import tasks as ray_tasks
from cluster.ray.address import check_reachable, close_token_file
from cluster.ray.imports import keep_ours
from cluster.ray.metrics import Metrics
from cluster.ray.places import find_ray_folder, make_token
from cluster.workers.patience import PATIENCE, Patience
from cluster.workers.runner import Done, Item, Resources, Result

OBJECT_STORE_BYTES = 256 << 20
NAMESPACE = "metafuse"
AUTHENTICATION_LOGGER = "ray._private.authentication.authentication_token_setup"


class RayRunner:
    """Runs on an embedded Ray (address None) or on a cluster that is already there."""

    def __init__(self, address: str | None = None, *, patience: Patience = PATIENCE) -> None:
        """Start or join Ray.

        Raises:
            RunnerError: the cluster does not answer.
        """
        self._patience = patience
        self._open: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            self._join(address)
        self._metrics = Metrics()

    def _join(self, address: str | None) -> None:
        common: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "logging_level": "error",
            "configure_logging": False,
        }
        if environment := keep_ours():
            common["runtime_env"] = environment
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                # Token authentication is what we want here; Ray warns that it is on.
                logging.getLogger(AUTHENTICATION_LOGGER).setLevel(logging.ERROR)
                make_token()
                # Never a bare ray.init(): it joins whatever Ray runs on the machine.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=find_ray_folder(),
                    _system_config={"worker_niceness": 0},  # nobody else's work is more urgent
                    **common,
                )
                close_token_file()
            else:
                check_reachable(address)
                ray.init(address=address, **common)
        except ClusterError:
            raise
        except Exception as error:  # noqa: BLE001  # Ray raises what it likes, also a bare one
            raise _describe_failure(address, error) from None
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
        results = ray_tasks.run_tasks(
            function, items, resources=resources, workers=workers, patience=self._patience
        )
        return self._kept(self._run(results, items, resources))

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        results = ray_pool.run_pool(
            make_worker,
            items,
            resources=resources,
            workers=workers,
            patience=self._patience,
            on_lost=self._metrics.count_lost_worker,
        )
        return self._kept(self._run(results, items, resources))

    def _run(
        self,
        results: Generator[Done[Result], None, None],
        items: Sequence[Any],
        resources: Resources,
    ) -> Generator[Done[Result], None, None]:
        if items:
            _check_feasible(resources)
            yield from self._metrics.counted(results)

    def _kept(
        self, results: Generator[Done[Result], None, None]
    ) -> Generator[Done[Result], None, None]:
        self._open.add(results)
        return results

    def close(self) -> None:
        # An error on its way up keeps alive what its callers iterate over.
        for results in list(self._open):
            if inspect.getgeneratorstate(results) != inspect.GEN_RUNNING:
                results.close()
        if self._is_ours and ray.is_initialized():
            ray.shutdown()


def _describe_failure(address: str | None, error: Exception) -> RunnerError:
    if address is not None:
        return RunnerError(
            f"Ray at {address} does not answer: {first_line(error)}",
            "check --address and RAY_AUTH_TOKEN_PATH, then run the same command again",
        )
    return RunnerError(
        f"Ray did not start on this machine: {first_line(error)}. Nothing was evaluated",
        "its logs are in session_latest/logs of its folder (RAY_TMPDIR, else /tmp/ray); memory, "
        "disk and process limits are the usual causes; the same command continues",
    )


def _check_feasible(resources: Resources) -> None:
    """An infeasible request would wait for ever without an error."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(resources.fit(node) for node in there):
        return
    raise RunnerError(
        "no node of the cluster has what one task asks for: "
        f"{resources.describe_lack(there)}. Nothing was started",
        "lower resources in the recipe, or add a larger node",
    )
