"""A whole run, from candidates to promotion, stopped at a storage operation and taken up again."""

import random

import pytest

from cluster.stores.open_store import open_store
from tests.support.publishing import (
    bury,
    check_promoted_once,
    copy_output,
    drop_output,
    read_promoted,
)
from tests.support.running import run_project
from tests.support.stopping import Stopped, Stopper, stoppable
from tests.support.whole_run import BEFORE, DAY, aim, make_scene


def check_stop(scene, output, operation, *, is_after):
    """A run that ends at an operation, a look at the pointer, and the same run again."""
    copy_output(scene.output, output)
    aim(scene.project, output)
    with stoppable(Stopper(operation, is_after)) as stopper, pytest.raises(Stopped):
        run_project(scene.project, date=DAY)
    assert read_promoted(output) in (scene.old, scene.new), stopper.seen[-1]
    bury(output)
    result = run_project(scene.project, date=DAY)
    assert result.outcome.result == "promoted"
    check_promoted_once(output, f"nightly-{DAY}", BEFORE, scene.new)
    left = [entry.key for entry in open_store(output).list("runs/")]
    assert {key.split("/")[1] for key in left} == {BEFORE, f"nightly-{DAY}"}
    assert not [key for key in left if "/baseline-" in key]
    drop_output(output)


def check_stops(scene, place, operations):
    for operation in operations:
        for is_after in (False, True):
            check_stop(scene, f"{place}-{operation}-{is_after}", operation, is_after=is_after)


def test_a_run_stopped_at_sampled_operations_ends_as_if_nothing_had_happened(project):
    scene = make_scene(project, "memory://sampled")
    chosen = random.Random(24).sample(range(1, scene.num_operations + 1), 3)
    check_stops(scene, "memory://sampled", chosen)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_run_stopped_at_any_storage_operation_ends_as_if_nothing_had_happened(
    project, quick_folder, kind, part
):
    place = f"memory://any-{part}" if kind == "memory" else str(quick_folder / "any")
    scene = make_scene(project, place)
    assert scene.num_operations > 300
    check_stops(scene, place, range(1 + part, scene.num_operations + 1, 4))
