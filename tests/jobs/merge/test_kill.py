"""A run killed for good, by SIGKILL at a storage operation, goes on to the same end."""

import random

import pytest

from tests.support.killing import COMMAND, HERE, kill_at, run_plainly
from tests.support.publishing import check_promoted_once, copy_output, read_promoted
from tests.support.running import run_project
from tests.support.whole_run import BEFORE, DAY, aim, make_scene

RUN = f"nightly-{DAY}"
# Storage operations of the driver, which has some more than these.
POINTS = random.Random(12).sample(range(5, 200), 12)


@pytest.mark.long
def test_a_run_killed_at_three_points_ends_as_if_nothing_had_happened(project, quick_folder):
    scene = make_scene(project, str(quick_folder / "kill"))
    for share, when in ((0.3, "after"), (0.6, "before"), (0.9, "after")):
        operation, output = int(scene.num_operations * share), str(quick_folder / f"out-{share}")
        copy_output(scene.output, output)
        aim(project, output)
        kill_at(operation, when, HERE, str(project), DAY)
        assert read_promoted(output) in (scene.old, scene.new)
        assert run_project(project, date=DAY).outcome.result == "promoted"
        check_promoted_once(output, RUN, BEFORE, scene.new)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("number", range(12))
def test_the_command_killed_at_a_sampled_point_ends_as_if_nothing_had_happened(
    project, quick_folder, number
):
    scene = make_scene(project, str(quick_folder / "kill"))
    operation, output = POINTS[number], str(quick_folder / "out")
    copy_output(scene.output, output)
    aim(project, output)
    command = ("run", str(project / "recipe.yaml"), "--date", DAY, "--json")
    kill_at(operation, "after" if number % 2 else "before", COMMAND, *command)
    assert read_promoted(output) in (scene.old, scene.new)
    run_plainly(*command)
    check_promoted_once(output, RUN, BEFORE, scene.new)
