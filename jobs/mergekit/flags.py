"""The flags of mergekit-yaml: what each means here, what has no meaning, and what is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fusion.plans.health import HealthMode
from jobs.errors import UsageError

Digest = Literal["crc64nvme", "sha256"]

# Switches, each with a --no- form, and flags that take a value.
SWITCHES = (
    "allow-crimes", "unsafe-truncate-embeddings", "trust-remote-code", "safe-serialization",
    "cuda", "gpu-rich", "low-cpu-memory", "read-to-gpu", "multi-gpu", "copy-tokenizer",
    "clone-tensors", "lazy-unpickle", "write-model-card", "async-write",
)  # fmt: skip
VALUES = (
    "device", "transformers-cache", "lora-merge-cache", "lora-merge-dtype", "random-seed",
    "write-threads",
)  # fmt: skip
WITHOUT_MEANING: Mapping[str, str] = {
    "low-cpu-memory": "nothing is kept in memory",
    "read-to-gpu": "nothing is kept in memory",
    "multi-gpu": "one device computes",
    "clone-tensors": "every tensor is written for itself",
    "lazy-unpickle": "nothing is unpickled",
    "async-write": "bytes are written while others are computed",
    "write-threads": "every worker writes what it computed",
    "transformers-cache": "nothing is downloaded",
    "lora-merge-cache": "adapters are applied while streaming",
    "lora-merge-dtype": "adapters are applied while streaming",
    "random-seed": "a linear merge draws nothing",
}
REFUSED: Mapping[tuple[str, bool], str] = {
    ("trust-remote-code", True): "no code of a checkpoint is ever run",
    ("allow-crimes", True): "models of different architectures have no common average",
    ("unsafe-truncate-embeddings", True): "rows of different tokens would be mixed",
    ("safe-serialization", False): "only safetensors are written, never pickles",
}


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How `metafuse merge` works and what it leaves out.

    Attributes:
        workers: number of threads.
        digest: digest of the shards beside the CRC64NVME that is always computed; None for sha256
            on remote stores only.
        shard_bytes: largest size of one output shard in bytes; None for 5 GB.
        health: which blocks are summed for cosines and norms; None for what the document says, else
            sampled.
        device: device of the arithmetic: "cpu" or "cuda".
        with_card: whether README.md is written.
        with_tokenizer: whether tokenizer files are copied.
        is_quiet: whether progress is left out.
        warnings: warnings for people; () for none.
    """

    workers: int = 2
    digest: Digest | None = None
    shard_bytes: int | None = None
    health: HealthMode | None = None
    device: str = "cpu"
    with_card: bool = True
    with_tokenizer: bool = True
    is_quiet: bool = False
    warnings: tuple[str, ...] = ()


def read_flags(
    flags: Mapping[str, object],
    *,
    workers: int,
    digest: Digest | None,
    shard_bytes: int | None,
    health: HealthMode | None = None,
    is_quiet: bool,
) -> MergeOptions:
    """What mergekit's flags ask for.

    Args:
        flags: flag values by name, with "_" for "-"; None where a flag is not given.
        workers: number of threads.
        digest: digest of the shards, as in `MergeOptions`.
        shard_bytes: largest size of one output shard, as in `MergeOptions`.
        health: which blocks are summed, as in `MergeOptions`.
        is_quiet: whether progress is left out.

    Raises:
        UsageError: a flag whose effect would not be safe.
    """
    given = {k.replace("_", "-"): value for k, value in flags.items() if value is not None}
    for (name, value), reason in REFUSED.items():
        if given.get(name) is value:
            flag = f"--{name}" if value else f"--no-{name}"
            raise UsageError(f"{flag} is refused: {reason}. Nothing was read.", f"leave {flag} out")
    idle = [name for name in WITHOUT_MEANING if given.get(name) not in (None, False)]
    reasons = "; ".join(f"--{name} ({WITHOUT_MEANING[name]})" for name in idle)
    wants_cuda = bool(given.get("cuda") or given.get("gpu-rich"))
    return MergeOptions(
        workers=workers,
        digest=digest,
        shard_bytes=shard_bytes,
        health=health,
        device=str(given.get("device") or ("cuda" if wants_cuda else "cpu")),
        with_card=given.get("write-model-card") is not False,
        with_tokenizer=given.get("copy-tokenizer") is not False,
        is_quiet=is_quiet,
        warnings=(f"no meaning here: {reasons}",) if idle else (),
    )
