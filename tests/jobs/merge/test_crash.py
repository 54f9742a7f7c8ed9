"""A run stopped before and after every storage operation goes on to the same end."""

import itertools
import random
from dataclasses import dataclass

import pytest
import torch

from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from tests.support.merging import write_sources
from tests.support.publishing import (
    bury,
    check_promoted_once,
    copy_output,
    drop_output,
    publish,
    read_promoted,
)
from tests.support.stopping import Stopped, Stopper, stoppable

BEFORE = "nightly-2026-11-23"
SHAPES = {"a.weight": (33, 17), "b.scalar": (), "c.empty": (0, 4), "d.big": (361, 13)}
# On S3 all parts but the last of a shard have 5 MiB: many shards of one part, one of two.
S3_SHAPES = {"a.big": (1_320_000,), **{f"b.{i}": (60 + i,) for i in range(3)}}
S3_CUT = {"unit_bytes": 5 << 20, "shard_bytes": 200}


@dataclass(frozen=True, slots=True)
class Scene:
    """A plan to publish over an incumbent, and how the two look to a reader."""

    plan: object
    incumbent: object
    old: dict[str, str]
    new: dict[str, str]
    num_operations: int


def make_scene(folder, output, *, shapes=SHAPES, unit_bytes=2002, shard_bytes=16_000):
    """Publish twice without a stop; `output` then has both."""
    sources = write_sources(folder, 2, torch.float32, shapes)
    cut = {"unit_bytes": unit_bytes, "shard_bytes": shard_bytes}
    small = write_sources(folder / "small", 1, shapes={"x": (7,)})
    incumbent = plan_merge(model_request(small, [1.0], MergeWish()))
    plan = plan_merge(model_request(sources, [0.3, 0.7], MergeWish()), **cut)
    publish(output, incumbent, day=23, before="")
    old = read_promoted(output)
    with stoppable(Stopper()) as stopper:
        publish(output, plan, day=24, before=BEFORE)
    new = read_promoted(output)
    assert set(old.values()).isdisjoint(
        digest for name, digest in new.items() if name.endswith(".safetensors")
    )
    return Scene(plan, incumbent, old, new, len(stopper.seen))


def stop_and_go_on(scene, output, operation, *, is_after):
    """A publication that ends at an operation, a look at the pointer, and the same call again."""
    with stoppable(Stopper(operation, is_after)) as stopper, pytest.raises(Stopped):
        publish(output, scene.plan, day=24, before=BEFORE)
    assert len(stopper.seen) == operation
    assert read_promoted(output) in (scene.old, scene.new), stopper.seen[-1]
    bury(output)
    run = publish(output, scene.plan, day=24, before=BEFORE)
    check_promoted_once(output, run, BEFORE, scene.new)


def check_stops(scene, place, stops):
    """Each stop on a fresh copy of an output with an incumbent."""
    publish(f"{place}-old", scene.incumbent, day=23, before="")
    for operation, is_after in stops:
        output = f"{place}-{operation}-{is_after}"
        copy_output(f"{place}-old", output)
        stop_and_go_on(scene, output, operation, is_after=is_after)
        drop_output(output)


def all_stops(scene):
    assert scene.num_operations > 100
    return list(itertools.product(range(1, scene.num_operations + 1), (False, True)))


def sampled_stops(scene, share):
    stops = all_stops(scene)
    return random.Random(4).sample(stops, len(stops) // share)


def test_a_merge_stopped_at_sampled_operations_ends_with_the_same_promoted_bytes(tmp_path):
    scene = make_scene(tmp_path / "sources", "memory://crash-some-whole")
    check_stops(scene, "memory://crash-some", sampled_stops(scene, 8))


@pytest.mark.long
def test_a_merge_stopped_at_any_storage_operation_ends_with_the_same_promoted_bytes(tmp_path):
    scene = make_scene(tmp_path / "sources", "memory://crash-whole")
    check_stops(scene, "memory://crash", all_stops(scene))


@pytest.mark.long
def test_a_merge_to_a_folder_stopped_at_sampled_operations_ends_with_the_same_bytes(
    tmp_path, quick_folder
):
    place = str(quick_folder / "out")
    scene = make_scene(tmp_path / "sources", f"{place}-whole")
    check_stops(scene, place, sampled_stops(scene, 5))


@pytest.mark.slow
def test_a_merge_to_a_folder_stopped_at_any_storage_operation_ends_with_the_same_bytes(
    tmp_path, quick_folder
):
    place = str(quick_folder / "out")
    scene = make_scene(tmp_path / "sources", f"{place}-whole")
    check_stops(scene, place, all_stops(scene))


@pytest.mark.s3
@pytest.mark.long
def test_a_merge_to_moto_stopped_at_sampled_operations_ends_with_the_same_bytes(
    tmp_path, moto, use
):
    use(moto)
    place = "s3://plain/crash"
    scene = make_scene(tmp_path / "sources", f"{place}-whole", shapes=S3_SHAPES, **S3_CUT)
    check_stops(scene, place, sampled_stops(scene, 40))


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_merge_to_seaweedfs_stopped_at_any_storage_operation_ends_with_the_same_bytes(
    tmp_path, seaweedfs, use, part
):
    use(seaweedfs)
    place = f"s3://plain/crash-{part}"
    scene = make_scene(tmp_path / "sources", f"{place}-whole", shapes=S3_SHAPES, **S3_CUT)
    check_stops(scene, place, all_stops(scene)[part::4])
