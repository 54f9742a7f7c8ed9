"""The webhook on a cluster: its address is in the head's environment, and nowhere else."""

from pathlib import Path

import pytest

from tests.jobs.submit.test_submit import DATE, write_recipe
from tests.support.hooks import SECRET, listening_hook
from tests.support.ray_head import metafuse, ray_head
from tests.support.tiny_lstm import write_project

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]


def test_the_driver_on_the_head_tells_and_ray_writes_the_address_nowhere(tmp_path):
    write_project(tmp_path / "project")
    more = "gate: {alpha: 0.05}\nnotify: {}\n"
    for name in ("run", "head"):
        (tmp_path / name).mkdir()
    recipe = write_recipe(tmp_path / "project", tmp_path / "run", "told", more)
    with listening_hook() as hook:
        secret = {"METAFUSE_WEBHOOK": hook.url, "METAFUSE_NOTIFY_ALLOW": hook.place}
        with ray_head(tmp_path / "head", env=secret) as head:
            words = ("submit", recipe, "--address", head.address, "--date", DATE)
            done = metafuse(*words, env=head.environment)
            (place,) = [str(a) for a in head.process.args if "--temp-dir=" in str(a)]
            files = [*find_files(Path(place.partition("=")[2])), *find_files(tmp_path)]
            found = [path for path in files if SECRET.encode() in path.read_bytes()]
    assert done.returncode == 0, done.stderr
    assert [(body["event"], body["run"]) for body in hook.bodies] == [("promoted", f"told-{DATE}")]
    assert SECRET not in done.stdout + done.stderr
    assert any("logs" in path.parts for path in files)
    assert not found


def find_files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
