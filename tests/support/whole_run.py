"""A whole run that promotes over an incumbent, undisturbed: what other runs are held to."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.publishing import copy_output, drop_output, read_promoted
from tests.support.running import run_project
from tests.support.stopping import Stopper, stoppable

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
