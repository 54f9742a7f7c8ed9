"""Recorded predictions: one row an example, in Parquet."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from cluster.errors import NotFoundError
from cluster.stores.store import Store
from fusion.errors import ManifestError
from fusion.scores.records import Floats, Records
from fusion.scores.slices import SLICES
from jobs.outputs.parquet_file import read_parquet

PREFIX = b"metafuse."
OLDER_NAMES = {"label": "truth", "probabilities": "outputs"}


def score_key(checkpoint_digest: str, task_digest: str, slice_name: str) -> str:
    """Where the records of a checkpoint on a slice are kept: by what was scored, not by run."""
    return f"{checkpoint_digest[:16]}-{task_digest[:16]}-{slice_name}.parquet"


def recorded_ids(store: Store, folder: str, task_digest: str) -> Mapping[str, frozenset[str]]:
    """Which examples were scored, for every slice of a task that anything was scored on.

    All records of one task and slice are of the same examples, so one file a slice is read.

    Raises:
        ManifestError: a record file cannot be read.
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
    """Parquet bytes. `facts` (what was scored, how long it took) go into the file's metadata.

    Columns: id, cluster, loss, units, those of the kind, and outputs where there are any.
    """
    columns = {
        "id": pa.array(records.ids, pa.string()),
        "cluster": pa.array(records.clusters, pa.string()),
        "loss": pa.array(records.losses, pa.float64()),
        "units": pa.array(records.units, pa.float64()),
    }
    for name, values in records.columns.items():
        columns[name] = _packed(values)
    if records.outputs is not None:
        columns["outputs"] = _packed(records.outputs)
    metadata = {PREFIX + key.encode(): value.encode() for key, value in facts.items()}
    metadata[PREFIX + b"labels"] = "\n".join(labels).encode()
    stream = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _packed(values: Floats) -> pa.Array:
    """[n] as numbers, [n, k] as lists of k."""
    if values.ndim == 1:
        return pa.array(values, pa.float64())
    return pa.array(list(values), pa.list_(pa.float64(), values.shape[1]))


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
    return _make_records(columns), facts


def _make_records(columns: Mapping[str, Sequence[Any]]) -> Records:
    """Records from the columns of a file; those of 0.1 knew classes alone."""
    if "units" not in columns:
        columns = {OLDER_NAMES.get(name, name): values for name, values in columns.items()}
    floats = {
        name: np.array(values, dtype=np.float64)
        for name, values in columns.items()
        if name not in ("id", "cluster")
    }
    losses = floats.pop("loss")
    return Records(
        ids=tuple(columns["id"]),
        clusters=tuple(columns["cluster"]),
        losses=losses,
        units=floats.pop("units", np.ones_like(losses)),
        outputs=floats.pop("outputs", None),
        columns=floats,
    )
