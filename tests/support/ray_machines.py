"""A Ray cluster of several nodes on this machine, and work that leaves marks in a folder."""

import threading
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

STORE = {"object_store_memory": 80 << 20}


@contextmanager
def ray_machines(num_cpus=2):
    """A head with CPUs of its own, to which tests add nodes."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": num_cpus, **STORE})
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def seen(folder):
    """(node, process, item) of all that was begun, by files of these names."""
    return {tuple(path.name.split(".")) for path in Path(folder).iterdir()}


def in_background(results):
    """Take the results on a thread, as a driver would."""
    done = []
    thread = threading.Thread(target=lambda: done.extend(results))
    thread.start()
    return thread, done
