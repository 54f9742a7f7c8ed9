"""METAFUSE_LOG=json: a line an event with run, unit and host, and no secret in any of them."""

import json
import logging

import pytest

from jobs.console.json_log import LogTo, current_log, format_line, name_run, open_log, read_log
from jobs.errors import UsageError
from tests.support.calling import call
from tests.support.merging import write_sources
from tests.support.running import run_project

LOGGER = logging.getLogger("jobs.merge.driver")


@pytest.fixture(autouse=True)
def _closed():
    yield
    open_log(LogTo())


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_without_the_variable_nothing_is_said(capsys):
    open_log(read_log({}))
    LOGGER.info("unit done")
    assert capsys.readouterr().err == ""
    assert LOGGER.parent.propagate


def test_another_value_is_refused():
    with pytest.raises(UsageError, match="json is what there is"):
        read_log({"METAFUSE_LOG": "xml"})


def test_a_line_has_run_unit_and_host_and_comes_once(capsys):
    for _ in range(2):
        open_log(read_log({"METAFUSE_LOG": "json"}))
    name_run("nightly-2026-11-24")
    LOGGER.info("unit done", extra={"unit": "00001-00002", "bytes": 7})
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["event"], line["run"], line["unit"]) == (
        "unit done", "nightly-2026-11-24", "00001-00002",
    )  # fmt: skip
    assert line["host"]
    assert line["bytes"] == 7
    assert current_log() == LogTo("nightly-2026-11-24", is_json=True)


HOSTILE = "a\x1b[31mb\x7f\n\u202ec\ud800 \x9b"
SECRETS = [
    "s3://user:CANARY@bucket/x",
    "https://b.s3/x?X-Amz-Credential=CANARY&X-Amz-Signature=CANARY",
    "https://b.s3/x?sig=1&token=CANARY",
    "Authorization: Bearer CANARY",
]


def test_control_characters_cannot_reach_a_terminal():
    record = logging.makeLogRecord({"msg": HOSTILE, "unit": HOSTILE})
    line = format_line(record, HOSTILE)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["unit"] == HOSTILE


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_that_messages_carry_are_not_written(text):
    record = logging.makeLogRecord({"msg": f"cannot reach {text}", "unit": text})
    assert "CANARY" not in format_line(record, "r")


def test_an_exception_is_named_and_its_text_is_not_written():
    found = (ValueError, ValueError("CANARY"), None)
    line = format_line(logging.makeLogRecord({"msg": "m", "exc_info": found}), "r")
    assert json.loads(line)["error"] == "ValueError"
    assert "CANARY" not in line


def test_a_run_says_a_line_a_unit_in_driver_and_worker(project, capsys):
    open_log(LogTo(is_json=True))
    result = run_project(project)
    lines = lines_of(capsys.readouterr().err)
    assert {line["run"] for line in lines} == {result.run}
    by_event = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    written = {line["unit"] for line in by_event["unit written"]}
    assert written
    assert {line["unit"] for line in by_event["unit done"]} == written
    assert {line["unit"] for line in by_event["evaluation written"]} >= {"a/rank", "(fused)/gate"}
    assert {line["step"] for line in by_event["step ended"]} >= {"evaluate", "merge"}


def test_everything_a_command_says_on_stderr_is_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("METAFUSE_LOG", "json")
    write_sources(tmp_path, 2)
    document = (
        "models: [{model: m0, parameters: {weight: 1}}, {model: m1, parameters: {weight: 1}}]\n"
        "merge_method: linear\n"
    )
    (tmp_path / "m.yml").write_text(document)
    status, _, err = call(capsys, "merge", tmp_path / "m.yml", tmp_path / "out")
    assert status == 0
    assert "progress" in {line["event"] for line in lines_of(err)}
    status, _, err = call(capsys, "status", "gs://bucket/x")
    (line,) = lines_of(err)
    assert status != 0
    assert (line["level"], line["code"][:2]) == ("error", "E-")
    assert line["hint"]
