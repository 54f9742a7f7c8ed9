"""Each file that an output keeps, damaged in each way: every verb ends typed, nothing is lost."""

import json
import shutil

import pytest

from cluster.errors import ClusterError
from fusion.errors import FusionError
from jobs.consume.resolve import resolve
from jobs.errors import JobError
from tests.support.calling import call
from tests.support.running import run_project
from tests.support.tiny_lstm import write_project

DATE = "2026-11-24"
LEDGER = "ledger-[0-9a-f][0-9a-f][0-9a-f]*"
FILES = {
    "lease": "lease.json",
    "pointer": "latest.json",
    "plan": "runs/*/plan.json",
    "outcome": "runs/*/outcome.json",
    "weights": "runs/*/weights.json",
    "run manifest": "runs/*/manifest.json",
    "model manifest": "runs/*/model-*/manifest.json",
    "units of the ledger": f"runs/*/{LEDGER}/units.plan",
    "record of the ledger": f"runs/*/{LEDGER}/00001-00001.json",
    "upload of the ledger": f"runs/*/{LEDGER}/00001.upload",
    "report": "runs/*/report.json",
}


def newer(content):
    return json.dumps({**json.loads(content), "mood of a newer release": {"a": [1]}}).encode()


DAMAGES = {
    "empty": lambda _: b"",
    "junk": lambda _: b"\x00\xff{not json",
    "null": lambda _: b"null",
    "null fields": lambda content: json.dumps(dict.fromkeys(json.loads(content))).encode(),
    "deep": lambda _: b"[" * 200_000 + b"]" * 200_000,
    "newer field": newer,
}
# What verbs may write beside what they are for.
SIDE = {"lease.json", "progress.json", "history.parquet", "index.html"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose run was promoted, and a copy of its output."""
    folder = tmp_path_factory.mktemp("damaged")
    write_project(folder)
    assert run_project(folder, date=DATE).outcome.result == "promoted"
    shutil.copytree(folder / "merged", folder / "copy")
    return folder


@pytest.fixture
def project(finished):
    """The project as it was when its run had ended: its candidates keep their pins."""
    shutil.rmtree(finished / "merged")
    shutil.copytree(finished / "copy", finished / "merged")
    return finished


def contents(output):
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in SIDE
    }


def find(output, pattern):
    found = sorted(output.glob(pattern))
    return found[0]


def ask(capsys, *words):
    """A verb that must end with a status of its own."""
    status, _, err = call(capsys, *words)
    assert status != 70, err
    assert "Traceback" not in err
    assert status == 0 or "E-" in err or status in {3, 4, 5}, (words, status, err)
    return status


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_every_verb_ends_typed_and_loses_nothing(name, damage, project, tmp_path, capsys):
    recipe = project / "recipe.yaml"
    output = project / "merged"
    run = next((output / "runs").iterdir()).name
    path = find(output, FILES[name])
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = contents(output)
    for words in (
        ("status", output, "--watch", "0"), ("resolve", output, "--verify"),
        ("history", output), ("verify", output), ("report", output, "--run", run),
        ("gc", output, "--dry-run"), ("pull", output, tmp_path / "pulled"),
        ("predict", output, "--text", "good film"), ("plan", recipe),
    ):  # fmt: skip
        ask(capsys, *words)
        assert contents(output) == before, words
    for words in (
        ("hold", output, "--reason", "r"), ("unhold", output, "--reason", "r"),
        ("promote", output, run, "--reason", "r"), ("rollback", output, "--reason", "r"),
        ("gc", output),
    ):  # fmt: skip
        ask(capsys, *words)
        assert lost(before, output) == set(), words


@pytest.mark.parametrize(
    "damage",
    [
        "null fields",
        "newer field",
        "empty",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("junk", "null", "deep")),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_a_run_that_meets_it_goes_on_or_ends_typed(name, damage, project):
    output = project / "merged"
    if name not in {"outcome", "pointer"}:  # else the run had ended, and reads no more
        find(output, FILES["outcome"]).unlink()
        find(output, FILES["pointer"]).unlink()
    path = find(output, FILES[name])
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = contents(output)
    ended = end_of_run(project)
    assert ended in {"promoted", "nothing_new"} or str(path) in ended
    if ended == "promoted":
        assert resolve(str(output)).pointer.run == "nightly-2026-11-24"
    assert lost(before, output) == set()


def end_of_run(project):
    """How a run ended, or its error: message and hint."""
    try:
        return run_project(project, date=DATE).outcome.result
    except (ClusterError, FusionError, JobError) as error:
        return f"{error}\nhint {error.hint}"


def lost(before, output):
    """Files that are gone, and shards that are not what they were."""
    after = contents(output)
    gone = {name for name in before if name not in after}
    return gone | {
        name
        for name in before
        if name.endswith(".safetensors") and name in after and after[name] != before[name]
    }
