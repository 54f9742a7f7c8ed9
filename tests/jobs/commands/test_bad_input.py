"""Bad input: one clear error, the exit status that alerts key on, and nothing lost."""

import json
import os
import pickle  # noqa: TID251  # to make a file that must be refused
import re
import shutil
import struct
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster.errors import AccessError, MissingPlaceError
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import DataError, TooFewError
from jobs.evaluate.needs import DataSize
from jobs.exits import EXIT_STATUSES
from jobs.run.prepare import check_memory
from tests.support.calling import call, edit_recipe, plan
from tests.support.running import run_project
from tests.support.tiny_lstm import write_data

KEPT = "candidates/a"


def rewrite(project, change):
    """Change the tensors of candidate a."""
    path = project / KEPT / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_an_empty_glob(capsys, project):
    edit_recipe(project, "candidates/*", "nowhere/*")
    status, _, err = plan(capsys, project)
    assert status == 13
    assert "E-NO-CANDIDATES" in err
    assert "nowhere/*" in err


def make_sharded(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:4], names[4:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({n: tensors[n] for n in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_missing_shard_skips_its_candidate_by_name(capsys, project):
    make_sharded(project / KEPT)
    assert plan(capsys, project)[0] == 0
    (project / KEPT / "model-00002-of-00002.safetensors").unlink()
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "skip       a: E-INCOMPLETE" in out
    assert "1 of 2 shards" in out


def test_too_few_whole_candidates(capsys, project):
    for name in "abc":
        path = project / "candidates" / name / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-10])
    status, _, err = plan(capsys, project)
    assert status == 13
    assert "1 usable candidate, min_candidates is 2" in err
    assert "a: E-TRUNCATED" in err


def test_a_hostile_header_stops_everything_unless_dropping_was_asked_for(capsys, project):
    text = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{}}'
    content = struct.pack("<Q", len(text)) + text + bytes(4)
    (project / KEPT / "model.safetensors").write_bytes(content)
    status, _, err = plan(capsys, project)
    assert status == 11
    assert "E-HEADER" in err
    edit_recipe(project, "task:", "select: {on_refused: drop}\ntask:")
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "skip       a: E-HEADER" in out


def test_a_pickle_is_never_opened(capsys, project):
    (project / KEPT / "model.safetensors").unlink()
    (project / KEPT / "pytorch_model.bin").write_bytes(pickle.dumps({"w": 1}))
    status, _, err = plan(capsys, project)
    assert status == 11
    assert "E-PICKLE" in err
    assert "save_pretrained" in err


def test_one_shape_differs(capsys, project):
    rewrite(project, lambda t: t.update({"dense.bias": torch.zeros(3)}))
    status, _, err = plan(capsys, project)
    assert status == 12
    assert "E-SHAPE" in err
    assert "dense.bias is [3] in a, [2] elsewhere" in err


def test_one_dtype_differs(capsys, project):
    rewrite(project, lambda t: t.update({"dense.bias": torch.zeros(2).half()}))
    status, _, err = plan(capsys, project)
    assert (status, "dense.bias is F16 in a, F32 elsewhere" in err) == (12, True)
    edit_recipe(project, "output:", "merge: {dtype: bfloat16}\noutput:")
    assert plan(capsys, project)[0] == 0


def test_vocabularies_differ(capsys, project):
    path = project / KEPT / "vocab.txt"
    lines = path.read_text().splitlines()
    lines[5], lines[6] = lines[6], lines[5]
    path.write_text("\n".join(lines) + "\n")
    status, _, err = plan(capsys, project)
    assert status == 12
    assert "E-VOCABULARY" in err
    assert "id 5 is" in err


def test_three_recipe_errors_at_once_with_lines(capsys, project):
    edit_recipe(project, "output: merged", "outptu: merged\ngate: {alpha: 7}\nselect: {keep: no}")
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "recipe.yaml:7: outptu: unknown key; did you mean 'output'?" in err
    assert "recipe.yaml:8: gate.alpha:" in err
    assert "recipe.yaml:9: select.keep:" in err


def test_json_has_one_object_on_failure_too(capsys, project):
    edit_recipe(project, "candidates/*", "nowhere/*")
    status, out, _ = call(capsys, "plan", project / "recipe.yaml", "--json")
    assert json.loads(out)["exit_status"] == status == 13


def test_data_without_the_column_names_what_there_is(project):
    edit_recipe(project, "label: label", "label: stars")
    with pytest.raises(DataError, match="no column 'stars', it has"):
        run_project(project)


def test_a_label_that_the_models_do_not_have(project):
    import pyarrow as pa
    from pyarrow import parquet

    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["label"] = [7 if i % 3 == 0 else label for i, label in enumerate(table["label"])]
    parquet.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=r"column 'label' holds 7 \(row 0\)"):
        run_project(project)
    assert EXIT_STATUSES[DataError.code] == 10


def test_missing_data(capsys, project):
    (project / "data" / "eval.parquet").unlink()
    status, _, err = plan(capsys, project)
    assert (status, "E-DATA" in err) == (10, True)


def test_a_nan_is_found_in_evaluation_and_its_candidate_left_out(project):
    rewrite(project, lambda t: t["dense.weight"].__setitem__((0, 0), float("nan")))
    result = run_project(project)
    rows = {row.name: row for row in result.report.candidates}
    assert rows["a"].status == "failed"
    assert "dense.weight of a has 1 NaN" in rows["a"].reason
    assert {row.name for row in rows.values() if row.status == "kept"} == {"b", "c", "d"}


def test_damage_that_leaves_too_few(project):
    for name in "abc":
        path = project / "candidates" / name / "model.safetensors"
        tensors = load_file(path)
        tensors["dense.weight"][0, 0] = float("inf")
        save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(TooFewError, match="1 usable candidate,"):
        run_project(project)


def test_an_output_that_cannot_be_written(capsys, project):
    (project / "file").write_text("")
    edit_recipe(project, "output: merged", "output: file/out")
    status, _, err = call(capsys, "run", project / "recipe.yaml")
    assert status == 21
    assert "project/file is a file; nothing was evaluated" in err


@pytest.mark.s3
def test_a_missing_bucket(capsys, project, moto, use):
    use(moto)
    edit_recipe(project, "output: merged", "output: s3://no-such-bucket/out")
    status, _, err = call(capsys, "run", project / "recipe.yaml")
    assert (status, "no-such-bucket" in err) == (21, True)
    assert EXIT_STATUSES[MissingPlaceError.code] == 21


@pytest.mark.s3
@pytest.mark.xdist_group("seaweedfs")
def test_wrong_credentials(capsys, project, seaweedfs, use):
    use({**seaweedfs, "AWS_SECRET_ACCESS_KEY": "canary-secret"})
    edit_recipe(project, "output: merged", "output: s3://plain/out")
    status, out, err = call(capsys, "run", project / "recipe.yaml")
    assert (status, "E-ACCESS" in err) == (21, True)
    assert "canary" not in out + err
    assert EXIT_STATUSES[AccessError.code] == 21


def test_other_clouds_name_the_way_to_go(capsys, project):
    edit_recipe(project, "candidates/*", "gs://bucket/x")
    status, _, err = plan(capsys, project)
    assert (status, "AWS_ENDPOINT_URL_S3" in err) == (10, True)


def test_two_kinds_of_models_have_no_average(capsys, project):
    path = project / KEPT / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model_type": "other"}))
    status, _, err = plan(capsys, project)
    assert (status, "2 kinds of models" in err) == (12, True)


def test_candidates_larger_than_the_memory_allowed(project):
    from jobs.errors import MemoryNeedError

    checkpoint, _ = pin_checkpoint(str(project / KEPT), name="a")
    with pytest.raises(MemoryNeedError, match="allows 1,000"):
        check_memory([checkpoint], 1000, data=DataSize())


def grow(project, name):
    """A candidate with more elements than the others."""
    path = project / "candidates" / name / "model.safetensors"
    tensors = load_file(path)
    tensors["more"] = torch.zeros(100_000)
    save_file(tensors, path, metadata={"format": "pt"})


def test_candidates_beyond_a_limit_are_neither_compared_nor_evaluated(capsys, project):
    needed = json.loads(call(capsys, "plan", project / "recipe.yaml", "--json")[1])
    grow(project, "a")
    assert plan(capsys, project)[0] == 12
    limits = "select: {max_parameters: 50k, max_bytes: 100MB}\nresources: {evaluate: {memory: "
    edit_recipe(project, "output:", limits + f"{needed['evaluate_memory_bytes']}}}}}\noutput:")
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "skip       a: too large: 101" in out
    result = run_project(project)
    rows = {row.name: row for row in result.report.candidates}
    assert (rows["a"].status, rows["a"].rank) == ("skipped", None)
    assert {n for n, row in rows.items() if row.status == "kept"} == {"b", "c", "d"}


def test_fixed_weights_name_the_candidates(capsys, project):
    weights = "weights: {rule: fixed, values: {a: 1, b: 1, c: 1, dd: 1}}\noutput:"
    edit_recipe(project, "output:", weights)
    status, _, err = plan(capsys, project)
    assert (status, "no weight for 'd'" in err) == (10, True)
    assert "'dd' is not a candidate; did you mean 'd'?" in err


def test_a_plan_says_how_long_it_may_take(capsys, project):
    _, out, _ = plan(capsys, project)
    assert re.search(r"time +about [0-9.]+ s to evaluate, [0-9.]+ s to merge", out)
    _, out, _ = call(capsys, "plan", project / "recipe.yaml", "--json")
    found = json.loads(out)
    assert found["evaluate_seconds"] > found["merge_seconds"] > 0


def test_an_index_cannot_leave_its_folder(capsys, project):
    index = {"metadata": {}, "weight_map": {"x": "../b/model.safetensors"}}
    (project / KEPT / "model.safetensors.index.json").write_text(json.dumps(index))
    status, _, err = plan(capsys, project)
    assert (status, "E-UNSAFE-NAME" in err) == (11, True)


def test_a_date_that_is_none_is_a_usage_error(capsys, project):
    status, out, err = call(capsys, "run", project / "recipe.yaml", "--date", "tomorrow", "--json")
    assert (status, json.loads(out)["error"]) == (2, "E-USAGE")
    assert "expected YYYY-MM-DD" in err


def test_a_missing_recipe(capsys, tmp_path):
    status, _, err = call(capsys, "plan", tmp_path / "none.yaml")
    assert (status, "No such file" in err) == (10, True)


def test_a_pointer_of_another_recipe_is_not_touched(project):
    from jobs.errors import PointerError

    run_project(project)
    before = (project / "merged" / "latest.json").read_bytes()
    edit_recipe(project, "name: nightly", "name: other")
    with pytest.raises(PointerError, match="belongs to recipe 'nightly'"):
        run_project(project)
    assert (project / "merged" / "latest.json").read_bytes() == before


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_gate_that_could_never_decide_is_refused_before_anything_is_paid(capsys, project, verb):
    write_data(project / "data" / "eval.parquet", count=120)
    status, _, err = call(capsys, verb, project / "recipe.yaml")
    assert (status, "48 of 120 examples are in the gate slice" in err) == (10, True)
    assert not (project / "merged" / "runs").exists()


def test_every_error_code_has_an_exit_status():
    import cluster.errors
    import fusion.errors
    import jobs.errors

    for room, base in ((cluster, "ClusterError"), (fusion, "FusionError"), (jobs, "JobError")):
        for kind in vars(room.errors).values():
            is_ours = isinstance(kind, type) and issubclass(kind, getattr(room.errors, base))
            assert not is_ours or kind.__name__ == base or kind.code in EXIT_STATUSES, kind


def test_a_folder_that_is_copied_is_the_same_candidate(project):
    shutil.copytree(project / KEPT, project / "candidates" / "e")
    result = run_project(project)
    states = {row.name: row.status for row in result.report.candidates}
    assert states.keys() == set("abcde")
    assert states["e"] == "skipped"


@pytest.mark.parametrize("arguments", [["plan"], ["run"], ["bogus"], ["plan", "x", "--nonsense"]])
def test_usage_errors_are_one_object_too(capsys, arguments):
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 2
    assert json.loads(out)["exit_status"] == 2
    assert "Usage" in err


def test_an_output_that_may_not_be_written(capsys, project):
    place = Path(tempfile.mkdtemp(prefix="metafuse-test-"))
    shutil.copytree(project, place / "project")
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = os.geteuid()
    try:
        if before == 0:  # root may write everywhere
            os.seteuid(65534)
        status, out, err = call(capsys, "run", place / "project/recipe.yaml", "--json")
    finally:
        os.seteuid(before)
        for path in [place, *place.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(place)
    assert (status, json.loads(out)["error"]) == (21, "E-ACCESS")
    assert "hint" in err


def test_a_cluster_that_does_not_answer(capsys, project):
    status, _, err = call(capsys, "run", project / "recipe.yaml", "--address", "127.0.0.1:1")
    assert (status, "nothing answers at 127.0.0.1:1" in err) == (40, True)


def test_a_source_that_changed_after_planning(capsys, project):
    class Stop(Exception):
        pass

    def stop(step, *_):
        if step.startswith("merge"):
            raise Stop

    with pytest.raises(Stop):
        run_project(project, say=stop)
    (project / KEPT / "model.safetensors").touch()
    recipe = project / "recipe.yaml"
    status, out, _ = call(capsys, "run", recipe, "--date", "2026-11-24", "--json")
    told = json.loads(out)
    assert (status, told["error"], told["exit_status"]) == (20, "E-SOURCE-CHANGED", 20)
    assert "candidates/a/model.safetensors was" in told["message"]
