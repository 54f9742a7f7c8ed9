"""Outputs that release 0.1 left on S3, finished and half-way, are resumed, read, promoted, undone.

tests/kept/*.zip hold every object under s3://plain/kept: four candidates, data, a recipe, two
finished nights, and a third that was stopped in its merge or before its judgement was written.
"""

import json
import zipfile
from pathlib import Path

import boto3
import pytest

from cluster.stores.open_store import open_store
from jobs.evaluate.record_files import load_records
from jobs.outputs.pointer import read_pointer
from jobs.tasks.slicing import parse_slices
from tests.jobs.commands.test_operate import call, read
from tests.support.running import run_project

KEPT = Path(__file__).parents[2] / "kept"
OUTPUT = "s3://plain/kept/out"
BEFORE, LATEST, NIGHT = "nightly-2026-11-22", "nightly-2026-11-23", "nightly-2026-11-24"
pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("kept")]


def restore(name):
    """Put the objects back: by MD5, so that every pin holds; shards with the plan they are of."""
    client, store = boto3.client("s3"), open_store("s3://plain/kept")
    for entry in list(store.list("")):
        store.delete(entry.key)
    with zipfile.ZipFile(KEPT / name) as kept:
        names = set(kept.namelist())
        for key in names:
            manifest = f"{key.rpartition('/')[0]}/manifest.json"
            is_shard = key.endswith(".safetensors") and manifest in names
            metadata = {"plan": json.loads(kept.read(manifest))["plan"]} if is_shard else {}
            client.put_object(
                Bucket="plain", Key=f"kept/{key}", Body=kept.read(key), Metadata=metadata
            )


@pytest.fixture
def kept(request, moto, use, tmp_path):
    use(moto)
    restore(request.param)
    recipe = open_store("s3://plain/kept").read("recipe.yaml")
    (tmp_path / "recipe.yaml").write_bytes(recipe)
    return tmp_path


@pytest.mark.parametrize("kept", ["merging.zip", "judging.zip"], indirect=True)
@pytest.mark.long
def test_a_run_that_an_older_release_left_half_way_goes_on(kept):
    store = open_store(OUTPUT)
    weights = store.read(f"runs/{NIGHT}/weights.json")
    folder = f"runs/{NIGHT}/ledger-"
    ledgers = {entry.key.split("/")[2] for entry in store.list(folder)}
    scores = {entry.key: entry.etag for entry in store.list("scores/")}
    result = run_project(kept, date="2026-11-24")
    assert (result.run, result.outcome.result) == (NIGHT, "promoted")
    assert store.read(f"runs/{NIGHT}/weights.json") == weights
    now = {entry.key.split("/")[2] for entry in store.list(folder)}
    # The same plan, to the digest: a ledger of another name would be another plan.
    assert {name for name in now if "baseline" not in name} == {
        name for name in ledgers if "baseline" not in name
    }
    # No score is computed twice: all are of the task as it was called, and none was written again.
    assert {key: store.head(key).etag for key in scores} == scores
    tasks = {entry.key.split("-")[1] for entry in store.list("scores/")}
    assert tasks == {key.split("-")[1] for key in scores}
    (rank,) = {load_records(store, key)[0].ids for key in scores if key.endswith("-rank.parquet")}
    slices = parse_slices(store.read(f"runs/{NIGHT}/slices.parquet"), "here")
    assert tuple(slices.ids[row] for row in slices.rows("rank")) == rank
    assert read_pointer(store).pointer.previous == LATEST
    again = run_project(kept, date="2026-11-24")
    assert again.outcome.result in ("promoted", "nothing_new")
    assert again.exit_status == 3


@pytest.mark.parametrize("kept", ["merging.zip"], indirect=True)
def test_what_an_older_release_finished_is_read_promoted_and_undone(kept, capsys, tmp_path):
    code, out, _ = read(capsys, "status", OUTPUT)
    assert code == 0
    assert f"latest   {LATEST}  epoch 2" in out
    assert call(capsys, "verify", OUTPUT, "--all")[0] == 0
    assert call(capsys, "report", OUTPUT, "--run", LATEST)[0] == 0
    assert call(capsys, "history", OUTPUT, "--write")[0] == 0
    assert call(capsys, "rollback", OUTPUT, "--reason", "kept")[0] == 0
    assert call(capsys, "resolve", OUTPUT)[1]["run"] == BEFORE
    assert call(capsys, "unhold", OUTPUT)[0] == 0
    assert call(capsys, "promote", OUTPUT, LATEST, "--reason", "kept")[0] == 0
    assert call(capsys, "resolve", OUTPUT)[1]["run"] == LATEST
    code, said = call(capsys, "pull", OUTPUT, str(tmp_path / "here"))
    assert code == 0, said
    assert call(capsys, "gc", OUTPUT, "--dry-run")[0] == 0
