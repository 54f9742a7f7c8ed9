"""The memory that `plan` states is an upper bound of what the run then takes, and a close one."""

import pytest

from tests.support.limited import UNLIMITED, run_limited

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]


def test_a_run_that_merges_by_itself_keeps_to_what_its_plan_states(project, record_property):
    recipe = str(project / "recipe.yaml")
    planned = run_limited("plan", recipe, data_bytes=UNLIMITED).answer["merge_memory_bytes"]
    measured = run_limited("run", recipe, data_bytes=UNLIMITED)
    record_property("peak_mib", measured.peak_bytes >> 20)
    record_property("stated_mib", planned >> 20)
    assert measured.peak_bytes <= planned <= 1.3 * measured.peak_bytes
