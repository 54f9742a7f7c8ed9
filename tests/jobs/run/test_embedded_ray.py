"""Ray is started for work that needs it, and for nothing else."""

import pytest

from cluster.workers.runner import Resources, SerialRunner
from jobs.console.figures import Steps
from jobs.run.embedded_ray import LazyRay
from tests.support.calling import call
from tests.support.running import run_project


class Evaluators(SerialRunner):
    """Workers that evaluate and cannot merge."""

    def run_pool(self, *_, **__):
        raise AssertionError("a merge came here")


def test_small_candidates_are_merged_by_the_driver_itself(project):
    done = run_project(project, runner=Evaluators(), is_embedded=True)
    assert done.outcome.result == "promoted"


def test_on_a_cluster_workers_merge_whatever_is_merged(project):
    with pytest.raises(AssertionError, match="a merge came here"):
        run_project(project, runner=Evaluators())


def test_the_driver_and_workers_merge_the_same_bytes(project, tmp_path):
    models = []
    for is_embedded in (True, False):
        run_project(project, date="2026-11-20", is_embedded=is_embedded)
        (path,) = (project / "merged").glob("runs/*/model-*/model.safetensors")
        models.append(path.read_bytes())
        (project / "merged").rename(tmp_path / f"merged-{is_embedded}")
    assert models[0] == models[1]


def test_a_night_without_news_starts_no_ray(project, capsys):
    run_project(project, date="2026-11-20")
    status, _, err = call(capsys, "run", project / "recipe.yaml", "--date", "2026-11-21")
    assert status == 3
    assert "Ray" not in err


def test_without_an_item_nothing_is_started():
    heard = []
    ray = LazyRay(None, Steps(lambda *told: heard.append(told)))
    assert not list(ray.run_tasks(len, [], resources=Resources(), workers=2))
    assert not list(ray.run_pool(lambda: len, [], resources=Resources(), workers=2))
    ray.close()
    assert heard == []
