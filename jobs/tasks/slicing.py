"""Which slice every example belongs to: decided once a run, kept beside its plan, read by all."""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import digest, to_json
from fusion.errors import ManifestError
from fusion.scores.canonical_text import canonical_text
from fusion.scores.slices import assign_slice, find_repeats
from jobs.errors import SourceChangedError
from jobs.outputs.keys import SLICES_KEY
from jobs.outputs.parquet_file import read_parquet

COUNTS = ("repeated_rank", "repeated_select", "num_shared")
PREFIX = "metafuse."


@dataclass(frozen=True, slots=True)
class Slices:
    """`slices.parquet`: n examples, in the order of the data.

    Attributes:
        ids: unique ids of the examples.
        clusters: short digest of what binds examples together, one an example.
        names: slice of each example: rank, select, gate or audit; "" for dropped near-duplicates.
        repeated_rank: number of examples dropped from rank, as another slice has nearly the same
            text.
        repeated_select: number of examples dropped from select, as another slice has nearly the
            same text.
        num_shared: number of examples of audit that nearly repeat one of gate; they stay.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    names: tuple[str, ...]
    repeated_rank: int = 0
    repeated_select: int = 0
    num_shared: int = 0

    @property
    def num_repeated(self) -> int:
        """Examples that are in no slice."""
        return self.repeated_rank + self.repeated_select

    @property
    def counts(self) -> Mapping[str, int]:
        """Examples of each slice that has any."""
        return Counter(name for name in self.names if name)

    @property
    def digest(self) -> str:
        """Digest of ids, clusters and names: the part of the slices that changes a score."""
        return digest(to_json((self.ids, self.clusters, self.names)))

    def rows(self, name: str) -> list[int]:
        """Indices of one slice."""
        return [index for index, own in enumerate(self.names) if own == name]


@dataclass(frozen=True, slots=True)
class FrozenSlices:
    """Where a run keeps its slices.

    Attributes:
        folder: URI of the folder that holds `slices.parquet`.
        sha256: sha256 of `slices.parquet`.
        digest: `Slices.digest`, part of the task's digest; "" for a run that an older release
            began, whose records are kept under the digest without it.
    """

    folder: str
    sha256: str
    digest: str


def make_slices(
    ids: Sequence[str], clusters: Sequence[str], texts: Sequence[str], shares: Mapping[str, float]
) -> Slices:
    """Slice the examples by their clusters, and drop near-duplicates from rank and select.

    20,000 texts of 100 words take 2 CPU seconds and 70 MiB, 200,000 take 25 and 320, beside the
    texts (docs/decisions/0043-slices-once.md).

    Args:
        ids: n unique ids of the examples.
        clusters: n texts of what binds examples together.
        texts: n texts, each with all that an example shows to a model.
        shares: share of each slice by its name, of sum 1.
    """
    assigned = [assign_slice(cluster, shares) for cluster in clusters]
    repeats = find_repeats(texts, assigned)
    dropped = Counter(assigned[index] for index in repeats.dropped)
    names = list(assigned)
    for index in repeats.dropped:
        names[index] = ""
    return Slices(
        ids=tuple(ids),
        clusters=tuple(map(_cluster_digest, clusters)),
        names=tuple(names),
        repeated_rank=dropped["rank"],
        repeated_select=dropped["select"],
        num_shared=len(repeats.shared),
    )


def follow_records(made: Slices, recorded: Mapping[str, frozenset[str]]) -> Slices:
    """Slices of a run whose records are older than its slices: what was scored is what counts.

    Args:
        made: slices made by the rule of today.
        recorded: ids of the examples of every slice that has records.
    """
    by_id = {example: name for name, ids in recorded.items() for example in ids}
    names = tuple(
        by_id.get(example, "" if name in recorded else name)
        for example, name in zip(made.ids, made.names, strict=True)
    )
    now = replace(made, names=names)
    return replace(
        now,
        repeated_rank=made.repeated_rank + made.counts["rank"] - now.counts["rank"],
        repeated_select=made.repeated_select + made.counts["select"] - now.counts["select"],
    )


def format_slices(slices: Slices) -> bytes:
    """Parquet bytes: columns id, cluster, slice; the counts are metadata of the file."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"id": slices.ids, "cluster": slices.clusters, "slice": slices.names}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    metadata = {PREFIX + name: str(getattr(slices, name)) for name in COUNTS}
    stream = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), stream, compression="zstd")
    return stream.getvalue()


def parse_slices(content: bytes, where: str) -> Slices:
    """What `format_slices` wrote.

    Args:
        content: bytes of the Parquet file.
        where: URI of the file, for messages.

    Raises:
        ManifestError: the content is something else.
    """
    import pyarrow as pa

    try:
        table: Any = read_parquet(pa.BufferReader(content))
        ids, clusters, names = (
            tuple(table.column(name).to_pylist()) for name in ("id", "cluster", "slice")
        )
        metadata = table.schema.metadata
        counts = {name: int(metadata[(PREFIX + name).encode()]) for name in COUNTS}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{where} is not a file of slices: {error!r:.200}") from None
    return Slices(ids, clusters, names, **counts)


def keep_slices(store: Store, folder: str, slices: Slices) -> bytes:
    """Write `slices.parquet`, unless another driver has; returns what stands there.

    Args:
        store: store of the output.
        folder: key of the run's folder.
        slices: slices that this driver made.
    """
    key, content = f"{folder}/{SLICES_KEY}", format_slices(slices)
    try:
        store.put(key, content, if_absent=True)
    except PreconditionError:
        return store.read(key)
    return content


def name_slices(store: Store, folder: str, content: bytes, *, digest: str) -> FrozenSlices:
    """Where `keep_slices` has put them, for evaluations anywhere.

    Args:
        store: store that the slices were written to.
        folder: key of the run's folder.
        content: bytes of `slices.parquet`.
        digest: digest of the slices, as `FrozenSlices` has it.
    """
    return FrozenSlices(f"{store.uri}/{folder}", hashlib.sha256(content).hexdigest(), digest)


def read_slices(frozen: FrozenSlices) -> Slices:
    """The slices of a run.

    Raises:
        SourceChangedError: the file is gone, or is no longer what the run began with.
    """
    where = f"{frozen.folder}/{SLICES_KEY}"
    try:
        content = open_store(frozen.folder).read(SLICES_KEY)
    except NotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != frozen.sha256:
        raise SourceChangedError(
            f"{where} is no longer what the run began with. Nothing was published.",
            "run the same command again: it starts an attempt with slices of its own",
        )
    return parse_slices(content, where)


def slice_sizes(frozen: FrozenSlices | None) -> Mapping[str, int]:
    """Number of examples by name of the slice; {} where the slices are not frozen."""
    return {} if frozen is None else read_slices(frozen).counts


def _cluster_digest(cluster: str) -> str:
    return hashlib.sha256(canonical_text(cluster).encode(errors="replace")).hexdigest()[:16]
