"""Slices as a value and as a file: what is kept, what is refused, what of them is a task."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Pin
from fusion.errors import ManifestError
from fusion.scores.slices import SLICES
from jobs.errors import SourceChangedError
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import (
    FrozenSlices,
    Slices,
    follow_records,
    format_slices,
    keep_slices,
    make_slices,
    name_slices,
    parse_slices,
    read_slices,
)

SHARES = {"rank": 0.3, "select": 0.2, "gate": 0.4, "audit": 0.1}
TASK = EvaluationTask(
    kind="text-classification",
    data="s3://b/eval.parquet",
    pin=Pin(1234, '"e"', None),
    columns={"text": "text", "label": "label"},
    id="",
    cluster="",
    shares=SHARES,
    batch_size=32,
    max_length=None,
)
# Of the release before slices were kept.
GOLDEN_TASK = "b0a1a7ae147e9c3f6f3dcec3a42cf976456835d1f0127915a6293691049d587e"

NAMES = st.sampled_from([*SLICES, ""])
ROWS = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), NAMES), max_size=9)


def of_rows(rows, *counts):
    return Slices(*(tuple(row[i] for row in rows) for i in range(3)), *counts)


@given(ROWS, st.tuples(*[st.integers(0, 9)] * 3))
def test_what_is_written_is_read(rows, counts):
    slices = of_rows(rows, *counts)
    assert parse_slices(format_slices(slices), "here") == slices


@pytest.mark.parametrize("content", [b"", b"PAR1 no PAR1"])
def test_another_file_is_named(content):
    with pytest.raises(ManifestError, match="there is not a file of slices"):
        parse_slices(content, "there")


def test_the_digest_is_of_what_changes_a_score():
    slices = of_rows([("a", "c", "rank"), ("b", "d", "gate")])
    assert slices.digest == replace(slices, repeated_rank=3, num_shared=1).digest
    assert len({slices.digest, *(replace(slices, **{field: ("x", "y")}).digest
                                 for field in ("ids", "clusters", "names"))}) == 4  # fmt: skip


def test_a_task_has_its_old_digest_until_it_is_given_slices_with_one():
    older = replace(TASK, slices=FrozenSlices("s3://b/runs/x", "0" * 64, ""))
    assert TASK.digest == older.digest == GOLDEN_TASK
    frozen = [replace(TASK, slices=FrozenSlices(*parts)) for parts in
              [("s3://b/runs/x", "0" * 64, "1"), ("s3://b/runs/y", "2" * 64, "1"),
               ("s3://b/runs/x", "0" * 64, "2")]]  # fmt: skip
    assert frozen[0].digest == frozen[1].digest
    assert len({GOLDEN_TASK, frozen[0].digest, frozen[2].digest}) == 3


def test_near_duplicates_are_counted_by_the_slice_that_lost_them():
    # By their hash: rank, gate, audit, rank, select, gate.
    clusters = ["text 1", "text 0", "text 5", "text 3", "text 6", "text 2"]
    alone = make_slices(list("abcdef"), clusters, list("uvwxyz"), SHARES)
    assert alone.num_repeated == alone.num_shared == 0
    where = dict(zip(alone.names, alone.ids, strict=True))
    same = make_slices(list("abcdef"), clusters, ["same"] * 6, SHARES)
    assert same.counts.keys() == {"gate", "audit"}
    assert same.repeated_rank == alone.counts["rank"]
    assert same.repeated_select == alone.counts.get("select", 0)
    assert same.num_shared == alone.counts["audit"]
    assert where.keys() >= {"rank", "gate", "audit"}


def test_slices_with_records_are_those_of_the_records_and_the_others_stay():
    names = ("rank", "rank", "", "gate", "")
    made = Slices(tuple("abcde"), tuple("12345"), names, repeated_rank=1, repeated_select=1)
    found = follow_records(made, {"rank": frozenset({"a", "c"})})
    assert found.names == ("rank", "", "rank", "gate", "")
    assert (found.repeated_rank, found.repeated_select) == (1, 1)
    assert follow_records(made, {}) == made


def test_the_first_driver_s_slices_stand(tmp_path):
    store = open_store(str(tmp_path))
    first, second = (of_rows([("a", "c", name)]) for name in ("rank", "gate"))
    content = keep_slices(store, "runs/x", first)
    assert keep_slices(store, "runs/x", second) == content
    frozen = name_slices(store, "runs/x", content, digest=first.digest)
    assert read_slices(frozen) == first


@pytest.mark.parametrize("change", [b"other", None])
def test_slices_that_are_not_the_frozen_ones_are_not_used(tmp_path, change):
    store = open_store(str(tmp_path))
    content = keep_slices(store, "x", of_rows([("a", "c", "rank")]))
    frozen = name_slices(store, "x", content, digest="")
    if change is None:
        store.delete("x/slices.parquet")
    else:
        store.put("x/slices.parquet", change)
    with pytest.raises(SourceChangedError, match=r"slices\.parquet is no longer what the run"):
        read_slices(frozen)
