"""Recorded predictions: one row an example, in Parquet."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from cluster.errors import NotFoundError
from cluster.stores.store import Store
from fusion.errors import ManifestError
from fusion.scores.records import Records
from fusion.scores.slices import SLICES
from jobs.outputs.parquet_file import read_parquet

PREFIX = b"metafuse."


def score_key(checkpoint_digest: str, task_digest: str, slice_name: str) -> str:
    """Where the records of a checkpoint on a slice are kept: by what was scored, not by run."""
    return f"{checkpoint_digest[:16]}-{task_digest[:16]}-{slice_name}.parquet"


def recorded_ids(store: Store, folder: str, task_digest: str) -> Mapping[str, frozenset[str]]:
    """Which examples were scored, for every slice of a task that anything was scored on.

    All records of one task and slice are of the same examples, so one file a slice is read.

    Raises:
        ManifestError: one cannot be read.
    """
    found: dict[str, frozenset[str]] = {}
    for entry in store.list(f"{folder}/"):
        names = [name for name in SLICES if entry.key.endswith(score_key("", task_digest, name))]
        if not names or names[0] in found:
            continue
        loaded = load_records(store, entry.key)
        if loaded is not None and loaded[1].get("task") == task_digest:
            found[names[0]] = frozenset(loaded[0].ids)
    return found


def format_records(records: Records, labels: Sequence[str], facts: Mapping[str, str]) -> bytes:
    """Parquet bytes. `facts` (what was scored, how long it took) go into the file's metadata."""
    table = pa.table(
        {
            "id": pa.array(records.ids, pa.string()),
            "cluster": pa.array(records.clusters, pa.string()),
            "label": pa.array(records.labels, pa.int64()),
            "loss": pa.array(records.losses, pa.float64()),
            "prediction": pa.array(records.predictions, pa.int64()),
            "probabilities": pa.array(
                list(records.probabilities), pa.list_(pa.float64(), len(labels))
            ),
        }
    )
    metadata = {PREFIX + key.encode(): value.encode() for key, value in facts.items()}
    metadata[PREFIX + b"labels"] = "\n".join(labels).encode()
    stream = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), stream, compression="zstd")
    return stream.getvalue()


def load_records(store: Store, key: str) -> tuple[Records, Mapping[str, str]] | None:
    """Records and their facts; None where there are none.

    Raises:
        ManifestError: the file is there but cannot be read.
    """
    try:
        content = store.read(key)
    except NotFoundError:
        return None
    try:
        table = read_parquet(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(
            f"{store.uri}/{key} is not a score file: {error}", "delete it and run again"
        ) from None
    found = table.schema.metadata or {}
    facts = {
        key.removeprefix(PREFIX).decode(): value.decode()
        for key, value in found.items()
        if key.startswith(PREFIX)
    }
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    records = Records(
        ids=tuple(columns["id"]),
        clusters=tuple(columns["cluster"]),
        losses=np.array(columns["loss"], dtype=np.float64),
        labels=np.array(columns["label"], dtype=np.int64),
        predictions=np.array(columns["prediction"], dtype=np.int64),
        probabilities=np.array(columns["probabilities"], dtype=np.float64),
    )
    return records, facts
