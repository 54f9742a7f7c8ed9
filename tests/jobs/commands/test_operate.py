"""The operator's verbs as typed: exit status, one JSON object, and words for people."""

import json

import pytest

from cluster.stores.open_store import open_store
from jobs.cli.main import main
from jobs.commands.operate import parse_share
from jobs.console.sizes import parse_age
from jobs.errors import UsageError
from tests.support.light_runs import begin, drive
from tests.support.tiny_lstm import RECIPE


def call(capsys, *words):
    """Exit status and the one JSON object on stdout."""
    with pytest.raises(SystemExit) as left:
        main([*map(str, words), "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return left.value.code, json.loads(lines[0])


def read(capsys, *words):
    """Exit status, stdout and stderr as a person sees them."""
    with pytest.raises(SystemExit) as left:
        main(list(map(str, words)))
    seen = capsys.readouterr()
    return left.value.code, seen.out, seen.err


@pytest.fixture
def output(tmp_path):
    store = open_store(str(tmp_path / "out"))
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    drive(store, "2026-11-23", "HOLD")
    return tmp_path / "out"


def test_a_night_on_call(output, capsys):
    """See what happened, go back, hold, look again, let go."""
    code, out, _ = read(capsys, "status", output)
    assert code == 0
    assert "latest   nightly-2026-11-22  epoch 2" in out
    assert "ended      held (exit 4)" in out
    code, out, _ = read(capsys, "rollback", output, "--reason", "users complain", "--dry-run")
    assert out.startswith("would do: latest nightly-2026-11-22 -> nightly-2026-11-21")
    code, out, _ = read(capsys, "rollback", output, "--reason", "users complain")
    assert code == 0
    assert "hold     rolled back from nightly-2026-11-22: users complain" in out
    code, out, err = read(capsys, "rollback", output, "--reason", "again")
    assert (code, err.split()[0]) == (11, "E-POINTER")
    code, said = call(capsys, "resolve", output)
    assert said["run"] == "nightly-2026-11-21"
    code, out, _ = read(capsys, "unhold", output)
    assert "it was: rolled back from nightly-2026-11-22" in out
    assert not call(capsys, "unhold", output)[1]["is_changed"]


def test_a_held_run_is_promoted_by_hand(output, capsys):
    code, said = call(
        capsys, "promote", output, "nightly-2026-11-23", "--reason", "better on phones"
    )
    assert (code, said["is_changed"]) == (0, True)
    assert said["after"]["changed"]["reason"] == "better on phones"
    code, said = call(capsys, "promote", output, "nightly-2026-11-23", "--reason", "again")
    assert (code, said["is_changed"]) == (0, False)


@pytest.mark.parametrize(
    "words", [("promote", "RUN"), ("rollback",), ("hold",)], ids=lambda words: words[0]
)
def test_a_reason_is_asked_for(output, capsys, words):
    verb, *rest = words
    assert call(capsys, verb, output, *rest)[1]["error"] == "E-USAGE"
    code, said = call(capsys, verb, output, *rest, "--reason", " ")
    assert (code, said["error"]) == (2, "E-USAGE")


def test_a_hold_is_shown_with_the_way_out(output, capsys):
    code, out, _ = read(capsys, "hold", output, "--reason", "release freeze")
    assert code == 0
    assert f"metafuse unhold {output}" in out
    _, said = call(capsys, "status", output)
    assert said["pointer"]["hold"] == "release freeze"


def test_status_of_a_folder_without_runs_says_so(tmp_path, capsys):
    code, out, _ = read(capsys, "status", tmp_path)
    assert code == 0
    assert "nothing is promoted" in out
    assert "run      none yet" in out
    assert call(capsys, "status", tmp_path, "--run", "x")[0] == 13


def test_status_of_an_unfinished_run_says_how_to_go_on(output, capsys):
    begin(open_store(str(output)), "2026-11-24")
    _, out, _ = read(capsys, "status", output)
    assert "run      nightly-2026-11-24  found" in out
    assert "not yet: metafuse run RECIPE --date DATE continues it" in out
    assert "others   3, the last: nightly-2026-11-21, nightly-2026-11-22" in out


def test_gc_shows_before_it_removes(output, capsys):
    words = ("gc", output, "--keep", "0", "--older-than", "0")
    code, said = call(capsys, *words, "--dry-run")
    runs = [leftover["run"] for leftover in said["leftovers"]]
    assert (code, runs) == (0, ["nightly-2026-11-21", "nightly-2026-11-23"])
    assert list((output / "runs/nightly-2026-11-21").glob("model-*"))
    code, out, _ = read(capsys, *words)
    assert out.splitlines()[-1].startswith("removed 2 things")
    _, out, _ = read(capsys, "status", output, "--run", "nightly-2026-11-21")
    assert "committed  removed by gc" in out
    assert call(capsys, "gc", output, "--older-than", "soon")[0] == 2


def test_ages_and_shares_are_read_as_people_write_them():
    assert [parse_age(text, option="--within") for text in ("7d", "12h", "0", "1.5m")] == [
        604800,
        43200,
        0,
        90,
    ]
    assert [parse_share(text) for text in ("5%", "0.05", "100%")] == [0.05, 0.05, 1.0]
    for wrong in ("", "x", "-1", "101%", "2"):
        with pytest.raises(Exception, match="is not a share"):
            parse_share(wrong)


def test_a_number_alone_is_no_age():
    with pytest.raises(UsageError, match="--older-than 7 has no unit") as refused:
        parse_age("7", option="--older-than")
    assert "--older-than 7d" in refused.value.hint


RETENTION = RECIPE.replace("output: merged", "output: out\nretention: {keep: 1, older_than: 14d}")


def test_gc_of_a_recipe_keeps_what_the_recipe_says_and_flags_say_otherwise(output, capsys):
    recipe = output.parent / "nightly.yaml"
    recipe.write_text(RETENTION)
    _, said = call(capsys, "gc", recipe, "--dry-run")
    assert (said["output"], said["keep"], said["older_than_seconds"]) == (
        str(output), 1, 14 * 86400.0,
    )  # fmt: skip
    assert said["leftovers"] == []
    _, said = call(capsys, "gc", recipe, "--older-than", "0")
    assert [x["run"] for x in said["leftovers"]] == ["nightly-2026-11-23"]
    _, said = call(capsys, "gc", recipe, "--older-than", "0", "--keep", "0", "--dry-run")
    assert [x["run"] for x in said["leftovers"]] == ["nightly-2026-11-21"]
    _, said = call(capsys, "gc", output, "--dry-run")
    assert (said["keep"], said["older_than_seconds"]) == (3, 7 * 86400.0)
    assert call(capsys, "gc", output.parent / "none.yaml")[0] == 10


def test_gc_marks_what_it_removed_in_the_history(output, capsys):
    call(capsys, "history", output, "--write")
    call(capsys, "gc", output, "--keep", "0", "--older-than", "0", "--reason", "disk full")
    _, out, _ = read(capsys, "history", output)
    assert "nightly-2026-11-21: model removed by gc, " in out
    assert "model removed by gc, " in (output / "index.html").read_text()


def test_status_of_a_removed_pointer_shows_the_runs_and_exits_as_the_other_verbs_do(output, capsys):
    (output / "latest.json").unlink()
    code, out, err = read(capsys, "status", output)
    assert (code, err.split()[0]) == (11, "E-POINTER")
    assert "latest   gone" in out
    assert "run      nightly-2026-11-23" in out
    assert "nothing is promoted" not in out
    code, said = call(capsys, "status", output)
    assert (code, said["error"], said["exit_status"]) == (11, "E-POINTER", 11)
    assert said["run"]["run"] == "nightly-2026-11-23"


def test_follow_is_for_an_output(capsys):
    code, said = call(capsys, "status", "a-s1", "--address", "http://h:8265", "--follow")
    assert (code, said["error"]) == (2, "E-USAGE")
