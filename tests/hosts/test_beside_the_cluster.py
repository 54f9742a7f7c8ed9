"""A run that is submitted from a machine beside the cluster, which has a token and no more.

These come before the faults: a head that is restarted forgets its jobs.
"""

import json
import subprocess

import pytest

from cluster.stores.open_store import open_store
from tests.hosts.stage import DATE


def metafuse(machines, run, verb, *arguments, **environment):
    """(exit status, stdout, stderr) of a command from outside."""
    done = subprocess.run(
        run.metafuse(verb, *arguments),
        env={**machines.outside, **environment},
        cwd=machines.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_run_from_outside_ends_promoted(machines, whole):
    run, _ = whole
    assert "PROMOTE" in run.first_log
    assert f"promoted: latest was moved to {run.run}" in run.first_log
    code, out, _ = metafuse(machines, run, "logs", f"{run.run}-s1", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["status"], told["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert f"merge fused  {run.num_units}/{run.num_units}" in told["log"]
    report = json.loads(open_store(run.output).read(f"runs/{run.run}/report.json"))
    assert report["verdict"]["decision"] == "PROMOTE"


@pytest.mark.parametrize("token", ["", "of another cluster"])
def test_without_its_token_nothing_runs(machines, whole, tmp_path, token):
    run, _ = whole
    path = tmp_path / "token"
    path.write_text(token)
    path.chmod(0o600)
    before = machines.jobs()
    untouched = tmp_path / "untouched.yaml"
    untouched.write_text(run.recipe_text.replace(run.output, "s3://plain/untouched"))
    code, out, err = metafuse(
        machines, run, "submit", str(untouched), "--date", DATE, RAY_AUTH_TOKEN_PATH=str(path)
    )
    assert (code, out) == (40, "")
    assert "token" in err
    assert "RAY_AUTH_TOKEN_PATH" in err
    assert "of another cluster" not in err
    assert machines.jobs() == before
    assert list(open_store("s3://plain/untouched").list()) == []
