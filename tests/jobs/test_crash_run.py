"""A whole run, from candidates to promotion, stopped at a storage operation and taken up again."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster.store import open_store
from tests.support.publishing import (
    bury,
    check_promoted_once,
    copy_output,
    drop_output,
    read_promoted,
)
from tests.support.running import run_project
from tests.support.stopping import Stopped, Stopper, stoppable

BEFORE, DAY = "nightly-2026-11-23", "2026-11-24"


def aim(project, output):
    """Let the recipe write elsewhere."""
    recipe = project / "recipe.yaml"
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("output:")]
    recipe.write_text("\n".join([*lines, f"output: {output}"]) + "\n")


def write_incumbent(project, output):
    """Promote a poor model: the candidates of the first night were noisy."""
    good = project.parent / "good"
    shutil.copytree(project / "candidates", good)
    for name in "abcd":
        path = project / "candidates" / name / "model.safetensors"
        generator = torch.Generator().manual_seed(5)
        tensors = {
            key: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
            for key, tensor in sorted(load_file(path).items())
        }
        save_file(tensors, path, metadata={"format": "pt"})
    aim(project, output)
    assert run_project(project, date="2026-11-23").outcome.result == "promoted"
    shutil.rmtree(project / "candidates")
    shutil.copytree(good, project / "candidates")


@dataclass(frozen=True, slots=True)
class Scene:
    """A project, an output with an incumbent, and how old and new model look to a reader."""

    project: Path
    output: str
    old: dict[str, str]
    new: dict[str, str]
    num_operations: int


def make_scene(project, place):
    """Run twice without a stop."""
    old, whole = f"{place}-old", f"{place}-whole"
    write_incumbent(project, old)
    copy_output(old, whole)
    aim(project, whole)
    with stoppable(Stopper()) as stopper:
        result = run_project(project, date=DAY)
    assert result.outcome.result == "promoted", result.outcome
    new = read_promoted(whole)
    drop_output(whole)
    return Scene(project, old, read_promoted(old), new, len(stopper.seen))


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
    chosen = random.Random(24).sample(range(1, scene.num_operations + 1), 15)
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
