"""What docs/operations.md tells people to type works as it stands there."""

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

import jobs.cli.operate
import jobs.cli.schedule
import jobs.cli.submit
from cluster.stores.open_store import open_store
from jobs.cli.group import cli
from jobs.exits import EXIT_STATUSES
from jobs.outputs.judgements import find_judgements
from jobs.outputs.run_folder import RunFolder
from jobs.run.write_results import write_pages
from tests.support.calling import call
from tests.support.light_runs import begin, drive
from tests.support.tiny_lstm import RECIPE

VERBS_COME_FROM = (jobs.cli.operate, jobs.cli.schedule, jobs.cli.submit)
PAGE = Path("docs/operations.md").read_text()
COMMANDS = re.findall(r"^    \$ (.+)$", PAGE, re.MULTILINE)
MENTIONED = re.findall(r"`(metafuse [a-z]+ [^`]+)`", PAGE)
# What needs candidates or a cluster is looked at as far as the command line does.
ONLY_READ = ("run", "plan", "submit", "stop", "logs", "schedule")


def words_of(command, output):
    text = command.partition("  #")[0].replace("$OUT", str(output))
    return shlex.split(text)


@pytest.fixture
def output(tmp_path):
    """Three promoted nights, one held, an unfinished one, pointers up to epoch 7."""
    store = open_store(str(tmp_path / "merged"))
    for day, decision in ((21, "PROMOTE"), (22, "PROMOTE"), (23, "PROMOTE"), (24, "HOLD")):
        run, *_ = drive(store, f"2026-11-{day}", decision)
    for judgement in find_judgements(RunFolder(store, run)):
        write_pages(RunFolder(store, run), judgement)
    begin(store, "2026-11-25")
    (tmp_path / "nightly.yaml").write_text(RECIPE)
    return tmp_path / "merged"


def check_parses(words):
    """The verb exists and takes these arguments and options."""
    name, *rest = words
    command = cli.commands[name]
    while isinstance(command, click.Group):
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, list(rest))


@pytest.mark.parametrize("command", sorted({*COMMANDS, *MENTIONED}))
def test_every_command_is_one(command):
    program, *words = words_of(command, "out")
    if program == "metafuse":
        check_parses(words)
    else:
        assert program == "cp"


def test_the_page_can_be_followed_from_top_to_bottom(output, capsys, monkeypatch):
    monkeypatch.chdir(output.parent)
    for command in COMMANDS:
        program, *words = words_of(command, output)
        if program == "cp":
            (output / "latest.json").unlink()  # the accident
            shutil.copy(*words)
        elif words[0] not in ONLY_READ:
            status, out, err = call(capsys, *words)
            assert status == 0 or (words[0] == "doctor" and status == 21), (command, out, err)


def test_every_exit_status_is_in_the_table():
    table = PAGE.partition("## 2.")[2].partition("## 3.")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if re.match(r"\| [0-9]", row)]
    told = {int(number) for row in rows for number in row.split(",")}
    assert told == {0, 3, 4, 5, 70, *EXIT_STATUSES.values()}


def test_every_verb_that_changes_something_is_on_the_page():
    for verb in ("rollback", "hold", "unhold", "promote", "gc", "verify", "history", "doctor"):
        assert verb in cli.commands
        assert f"metafuse {verb} " in PAGE


def test_the_page_stays_short():
    assert len(PAGE.splitlines()) <= 200
