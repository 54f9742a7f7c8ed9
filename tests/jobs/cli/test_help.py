"""What the command line says of itself, and of what it leaves behind when it is stopped."""

import click
import pytest

from jobs.cli.group import cli, finish
from jobs.cli.kept import READERS, describe_interrupt
from jobs.exits import EXIT_STATUSES, MEANINGS
from tests.support.calling import call


def all_verbs(group, context):
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        yield name, verb
        if isinstance(verb, click.Group):
            yield from all_verbs(verb, context)


def test_the_help_has_whole_sentences_and_a_table_of_exit_statuses(capsys):
    status, out, _ = call(capsys, "--help")
    commands = out.partition("Commands:")[2]
    words = " ".join(commands.split())
    assert (status, "..." in commands) == (0, False)
    for verb in cli.commands.values():
        sentence = " ".join((verb.help or "").split()).partition(". ")[0]
        assert sentence.rstrip(".") in words
    table = out.partition("Exit statuses:")[2].splitlines()
    said = [line.split(maxsplit=1)[0] for line in table if line.startswith("  ") and line.strip()]
    assert {str(status) for status in EXIT_STATUSES.values()} <= set(said)
    assert {"0", "3", "4", "5", "70"} <= set(said)
    assert len(MEANINGS) == len({*EXIT_STATUSES.values(), 0, 3, 4, 5, 70})


def test_the_help_of_a_group_is_whole_too(capsys):
    out = call(capsys, "schedule", "--help")[1]
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "kept", "hint"),
    [
        (["predict", "m", "--text", "x"], "nothing of it is kept", "starts anew"),
        (["--json", "evaluate"], "nothing of it is kept", "starts anew"),
        (["schedule", "list"], "nothing of it is kept", "starts anew"),
        (["schedule", "run"], "what was done is kept", "continues"),
        (["run", "r.yaml"], "what was done is kept", "continues"),
        (["merge", "m.yml"], "what was done is kept", "continues"),
        ([], "what was done is kept", "continues"),
    ],
)
def test_only_verbs_that_keep_what_they_did_promise_it(words, kept, hint):
    assert describe_interrupt(words) == (kept, f"the same command {hint}")


def test_every_reader_is_a_verb():
    assert set(READERS) <= {name for name, _ in all_verbs(cli, click.Context(cli))}


def test_a_cancelled_predict_promises_nothing(capsys):
    def stopped():
        raise KeyboardInterrupt

    above = click.Context(cli, info_name="metafuse")
    context = click.Context(cli.commands["predict"], parent=above, info_name="predict")
    with context, pytest.raises(SystemExit) as left:
        finish(stopped, as_json=False)
    err = capsys.readouterr().err
    assert left.value.code == 130
    assert "E-INTERRUPTED  stopped; nothing of it is kept" in err
    assert "continues" not in err
