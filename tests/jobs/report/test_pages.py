from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser

import pytest
import yaml

from fusion.canonical import from_json
from fusion.evidence.verdict import AccuracyChange, Comparison, Verdict
from fusion.manifests.model import ModelManifest, SourceEntry
from fusion.manifests.report import AccuracyRow, RunReport
from jobs.console.show import clean
from jobs.report.card import format_card
from jobs.report.pages import (
    BADGES,
    format_bytes,
    format_count,
    format_seconds,
    markdown_cell,
    write_report,
)
from jobs.run.report_value import headline
from tests.support.sample_report import make_report

HOSTILE = ["<script>alert(1)</script>", "a$\\frac{$b", "nul\0esc\x1b[31m", "a | b | c", "x" * 500]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.handlers = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def poisoned(value, text):
    """The same value with every plain text replaced; words with a meaning stay."""
    if isinstance(value, str):
        return text
    if isinstance(value, tuple):
        return tuple(poisoned(item, text) for item in value)
    if is_dataclass(value):
        meaning = {"decision", "role", "status", "reason" if isinstance(value, Verdict) else ""}
        changes = {
            f.name: poisoned(getattr(value, f.name), text)
            for f in fields(value)
            if f.name not in meaning
        }
        return replace(value, **changes)
    return value


def test_the_report_says_what_happened():
    files = write_report(make_report())
    reader = read(files["report.html"].decode())
    text = " ".join(reader.text)
    for words in (
        "PROMOTE",
        "bit-rot",
        "absmax 3.1e+38",
        "ensemble",
        "founding document",
        "0.0452",
    ):
        assert words in text
    assert reader.tags.count("svg") == 4
    assert len(files["report.html"]) < 1_500_000
    assert from_json(RunReport, files["report.json"]) == make_report()
    assert "| fused | 0.5589 |" in files["report.md"].decode()


def test_the_report_says_how_near_candidates_are_to_the_fused_model():
    files = write_report(make_report())
    text = " ".join(read(files["report.html"].decode()).text)
    for words in (
        "The fused tensors",
        "0.9260 (22.2°)",
        "8.3 % of the elements",
        "Warning: the norm",
    ):
        assert words in text
    assert "| seed-4 | 0.9260 (22.2°) |" in files["report.md"].decode()
    without = write_report(make_report(health=None))
    assert "fused tensors" not in without["report.html"].decode()
    assert "in tensor" not in without["report.md"].decode()


def test_the_same_value_gives_the_same_bytes():
    assert write_report(make_report()) == write_report(make_report())


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "math", "control", "pipe", "long"])
def test_hostile_text_is_shown_and_never_obeyed(text):
    files = write_report(poisoned(make_report(), text))
    page = files["report.html"].decode()
    reader = read(page)
    assert "script" not in reader.tags
    assert reader.handlers == []
    assert "\0" not in page
    assert "\x1b" not in page
    note = files["report.md"].decode()
    assert "<script>" not in note
    rows = [line for line in note.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (5, 6) for line in rows)


@pytest.mark.parametrize("decision", ["HOLD", "REFUSE"])
def test_other_verdicts_have_their_report(decision):
    verdict = Verdict(decision, "undecided", "needs about 4,562 examples", (), (), 4562)
    report = make_report(verdict=verdict, headline="Not decided: needs about 4,562 examples")
    page = write_report(report)["report.html"].decode()
    assert f'class="badge {decision}"' in page
    assert "4,562" in page


REASONS = {
    "REFUSE": "loss 0.0012 lower than the best candidate a; needs about 4,562 examples",
    "HOLD": "guard accuracy failed against a: its lower bound -0.1 is not above -0.01",
}


@pytest.mark.parametrize("decision", REASONS)
def test_a_verdict_is_said_once(decision):
    verdict = Verdict(decision, "undecided", REASONS[decision], (), (), 4562)
    said = headline(verdict)
    assert said[0].isupper()
    files = write_report(make_report(verdict=verdict, headline=said))
    badge = BADGES[decision]
    note = files["report.md"].decode()
    assert note.splitlines()[0] == f"# {badge}: {markdown_cell(said)}"
    page = " ".join(read(files["report.html"].decode()).text)
    for text in (note, page):
        assert text.count(REASONS[decision][20:40]) == 1 + text.count("<title>")
        assert "Not decided" not in text
        assert "Held" not in text
    assert f"Gate: {badge}\n" in note


HARD = Comparison(
    "nightly-1", "incumbent", -0.0377, 0.01, -0.054, -0.0214, -0.057, -0.018, 99, 400, 100, 0.02
)


def test_a_held_verdict_has_a_short_headline_and_one_kind_of_interval():
    text = (
        "loss 0.0377 higher than the incumbent; the one-sided 95 % upper bound, -0.0214, is below 0"
    )
    verdict = Verdict("HOLD", "not_better", text, (HARD,))
    assert headline(verdict) == "Worse than the incumbent by 0.0377"
    undecided = replace(verdict, decision="REFUSE", reason="undecided", examples_needed=4562)
    assert "about 4,562 are needed" in headline(undecided)
    page = write_report(make_report(verdict=verdict))["report.html"].decode()
    assert "Bounds are one-sided, 95.0 % each" in page


def test_an_accuracy_that_falls_is_told_beside_the_loss():
    change = AccuracyChange(-0.025, -0.06, 0.01, 20, 30, None)
    row = AccuracyRow("lr-1", "best_candidate", change)
    files = write_report(make_report(accuracies=(row,)))
    page = " ".join(read(files["report.html"].decode()).text)
    assert "-2.5 points" in page
    assert "no difference beyond chance" in page
    assert "is sure by" in page
    assert "Accuracy against lr-1: -2.5 points" in files["report.md"].decode()


def test_scores_that_are_not_numbers_are_shown_as_such():
    report = make_report()
    first = report.candidates[0]
    broken = replace(first, rank=replace(first.rank, loss=float("nan")))
    rows = tuple(replace(row, high95=float("inf")) for row in report.forest)
    page = write_report(make_report(candidates=(broken,), forest=rows))["report.html"].decode()
    assert "nan" in page


def test_without_a_forest_there_is_no_plot():
    page = write_report(make_report(forest=()))["report.html"].decode()
    assert page.count("<svg") == 3


def test_numbers_have_human_units():
    sizes = [format_bytes(value) for value in (0, 999, 1_400_000, 141e9)]
    assert sizes == ["0 B", "999 B", "1.4 MB", "141 GB"]
    assert [format_count(v) for v in (None, 12, 22_700_000)] == ["", "12", "22.7 M"]
    assert [format_seconds(v) for v in (None, 3.14, 250)] == ["", "3.1 s", "4 min 10 s"]


def test_the_terminal_is_not_moved_by_names():
    assert clean("a\x1b[2Jb\0") == "a\ufffd[2Jb\ufffd"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_is_yaml_in_front_and_a_table_in_the_body(text):
    sources = (SourceEntry(text, f"s3://b/{text}", 0.5, {}), SourceEntry("b", "/b", 0.5, {}))
    manifest = ModelManifest(plan="p", method="linear", files=(), sources=sources)
    card = format_card(manifest, title=text)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["merge", "metafuse"]
    assert "<script>" not in body.split("```yaml")[0]
    recipe = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert recipe["merge_method"] == "linear"
    assert [m["parameters"]["weight"] for m in recipe["models"]] == [0.5, 0.5]
