"""Hints name what can help, and messages what is wrong."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest

from jobs.console.sizes import format_size
from jobs.mergekit.document import parse_mergekit
from tests.support.calling import call, edit_recipe, plan
from tests.support.waiting import LONG


def test_fresh_candidates_say_how_long_to_wait(capsys, project):
    edit_recipe(project, "task:", "select: {settle: 10m}\ntask:")
    for path in (project / "candidates").rglob("*"):
        path.touch()
    status, _, err = plan(capsys, project)
    assert status == 13
    hint = next(line for line in err.splitlines() if line.startswith("hint"))
    assert re.match(r"hint     wait (10m0|9m|8m)", hint)  # the ages of files go on
    assert hint.endswith("or lower select.settle")


def test_one_fresh_candidate_says_it_too(capsys, project):
    edit_recipe(project, "task:", "select: {settle: 10m}\ntask:")
    import os

    for path in (project / "candidates").rglob("*"):
        os.utime(path, (1e9, 1e9))
    (project / "candidates" / "a" / "vocab.txt").touch()
    status, out, _ = plan(capsys, project)
    assert (status, "or lower select.settle" in out) == (0, True)


def test_missing_data_points_at_the_data_and_not_at_columns(capsys, project):
    shutil.rmtree(project / "data")
    _, _, err = plan(capsys, project)
    assert "eval.parquet does not exist" in err
    assert "check the path or URI under task.data" in err
    assert "columns" not in err


def test_an_output_that_cannot_be_made_is_called_that(capsys, project):
    edit_recipe(project, "output: merged", "output: /proc/x/merged")
    status, _, err = call(capsys, "run", project / "recipe.yaml")
    assert (status, "E-NO-PLACE" in err, "cannot be created" in err) == (21, True, True)
    assert "does not exist" not in err


def test_a_merge_has_at_least_one_worker(capsys, tmp_path):
    status, _, err = call(capsys, "merge", tmp_path / "m.yml", tmp_path / "out", "--workers", "0")
    assert (status, "0 is not in the range x>=1" in err) == (2, True)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("slices: [{sources: [{model: a, layer_range: [0, 1]}]}]", "layers of several models"),
        ("tokenizer_source: union", "else of the first model, is kept"),
    ],
)
def test_what_a_mergekit_document_cannot_ask_for_has_its_own_reason(key, reason):
    text = f"merge_method: linear\n{key}\nmodels: [{{model: a, parameters: {{weight: 1}}}}]\n"
    with pytest.raises(Exception, match=reason) as refused:
        parse_mergekit(text, name="m.yml", folder="/x")
    assert refused.value.code == "E-RECIPE"
    assert refused.value.hint


@pytest.mark.parametrize("imported", ["click", "numpy", "pyarrow", "jobs.commands.run"])
def test_an_interrupt_while_it_starts_is_no_trace_and_no_failure(project, imported):
    ask = [sys.executable, "-X", "importtime", "-m", "jobs", "plan", str(project / "recipe.yaml")]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        until = f"| {imported}\n".replace(" ", "")
        next(line for line in asked.stderr if line.replace(" ", "").endswith(until))
        asked.send_signal(signal.SIGINT)
        _, err = asked.communicate(timeout=LONG)
    assert asked.returncode == 130
    assert "Traceback" not in err
    assert "Aborted" not in err


def test_json_is_one_object_where_a_merge_has_no_worker(capsys, tmp_path):
    _, out, _ = call(capsys, "merge", tmp_path, tmp_path, "--workers", "-3", "--json")
    assert json.loads(out)["exit_status"] == 2


def test_sizes_are_told_in_a_unit_that_shows_them():
    assert [format_size(n) for n in (12, 820_000, 5_453_232, 13_640_000_000)] == [
        "12 B",
        "820 kB",
        "5.5 MB",
        "13.64 GB",
    ]


def test_the_start_of_ray_is_announced_before_it_takes_seconds(capsys, project):
    _, _, err = call(capsys, "run", project / "recipe.yaml", "--address", "127.0.0.1:1")
    assert "joining Ray  0/1  127.0.0.1:1" in err


@pytest.mark.s3
def test_a_missing_data_bucket_points_at_the_data_too(capsys, project, moto, use):
    use(moto)
    edit_recipe(project, "data: data/eval.parquet", "data: s3://no-such-bucket/eval.parquet")
    _, _, err = plan(capsys, project)
    assert "s3://no-such-bucket/eval.parquet" in err
    assert "check the path or URI under task.data" in err
    assert "columns" not in err


def test_a_reader_that_has_seen_enough_is_no_bug(project):
    ask = [sys.executable, "-m", "jobs", "plan", str(project / "recipe.yaml")]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        asked.stdout.close()
        err = asked.stderr.read()
    assert (asked.returncode, "E-BUG" in err, "BrokenPipe" in err) == (0, False, False)


DEAF = """
import signal, sys, time
import jobs.cli.signals
signal.signal(signal.SIGTERM, lambda *_: None)
jobs.cli.signals.leave_in_time()
{said}
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("said", "lines"), [("", 1), ("jobs.cli.signals.SAID.set()", 0)])
def test_what_hangs_after_a_signal_is_left_with_one_object_and_what_to_do(said, lines):
    ask = [sys.executable, "-c", DEAF.format(said=said), "run", "--json"]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
        asked.stderr.readline()
        asked.send_signal(signal.SIGTERM)
        out, err = asked.communicate(timeout=LONG)
    assert asked.returncode == 130
    assert err.count("hint     the same command continues") == lines
    assert [json.loads(line)["error"] for line in out.splitlines()] == ["E-INTERRUPTED"] * lines
