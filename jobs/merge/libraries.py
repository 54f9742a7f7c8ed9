"""How much memory the libraries of a merge worker take here, before it does anything."""

import subprocess
import sys
from functools import cache

from jobs.merge.memory import IMPORTED_BYTES, WorkerMemory

PATIENCE_SECONDS = 60.0
# Threads and buffers of a process that is connected to Ray, beyond the import.
CONNECTED_BYTES = 16 << 20
# What a worker has loaded once it has its first unit.
LOADED = """
import jobs.merge.worker, cluster.stores.s3.store{ray}
from cluster.workers.process_memory import peak_bytes
from fusion.methods.probe import digest_arithmetic
digest_arithmetic("cpu")
print(peak_bytes())
"""


def expected_bytes(memory: WorkerMemory, *, before: int = 0, with_ray: bool = False) -> int:
    """The most that the process of a worker takes on a machine like this one, in bytes.

    Args:
        memory: how the worker cuts its reads.
        before: what the process had taken when it began to merge.
        with_ray: whether Ray is loaded in it: in its workers, and in a command that evaluates.
    """
    libraries = measure_libraries(with_ray=with_ray) + with_ray * CONNECTED_BYTES
    return memory.total_bytes - IMPORTED_BYTES + libraries + before


@cache
def measure_libraries(*, with_ray: bool) -> int:
    """Largest resident memory in bytes of a process that has imported all that a worker imports.

    How much of a library the kernel maps differs from machine to machine. Where it cannot be
    measured, the most that was seen anywhere.

    Args:
        with_ray: whether Ray is imported too.
    """
    try:
        said, _ = start_measuring(with_ray=with_ray).communicate(timeout=PATIENCE_SECONDS)
        return int(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        return IMPORTED_BYTES


@cache
def start_measuring(*, with_ray: bool) -> subprocess.Popen[str]:
    """The process that measures, once; it takes a second or two, beside what else is done."""
    code = LOADED.format(ray=", ray" if with_ray else "")
    return subprocess.Popen(  # noqa: S603  # our own text
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
