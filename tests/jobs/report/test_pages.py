from dataclasses import fields, is_dataclass, replace

import pytest
import yaml

from fusion.canonical import from_json
from fusion.evidence.headline import Terms, write_headline
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
from tests.support.html_tables import Page
from tests.support.sample_report import make_report

TERMS = Terms("superior", 0.0, "loss", "nats", "seed-1", "")
HOSTILE = ["<script>alert(1)</script>", "a$\\frac{$b", "nul\0esc\x1b[31m", "a | b | c", "x" * 500]


def read(files):
    return Page(files["report.html"].decode())


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
    page = read(files)
    assert (page.badge, page.title) == ("PROMOTE", make_report().headline)
    assert page.tags.count("svg") == 8  # each for wide and for narrow pages
    assert len(files["report.html"]) < 1_500_000
    assert from_json(RunReport, files["report.json"]) == make_report()
    assert "| fused | 0.5589 |" in files["report.md"].decode()


def test_figures_at_the_top_are_those_of_the_verdict():
    assert read(write_report(make_report())).figures == {
        "loss of the fused model, in nats": "0.5589",
        "its accuracy": "80.2 %",
        "gain over the incumbent95 % CI +0.0214 to +0.0690": "+0.0452",
        "gain over the best candidate95 % CI +0.0471 to +0.1155": "+0.0813",
        "effective number of modelssoftmax of minus the loss, temperature 1": "3.98",
    }


def test_models_are_compared_in_the_order_of_the_report_with_their_own_figures():
    page = read(write_report(make_report()))
    rows = page.tables["Compared on the gate slice"]
    assert [row["model"] for row in rows] == [
        "fused", "uniform average", "ensemble", "seed-1", "night-2026-11-23",
        "founding document, one epoch",
    ]  # fmt: skip
    assert page.row("Compared on the gate slice", "ensemble") == {
        "model": "ensemble", "loss": "0.5211", "±": "0.0310", "accuracy": "80.6 %",
        "macro F1": "0.796", "cost to serve": "4 models",
    }  # fmt: skip
    assert rows[-1] == {
        "model": "founding document, one epoch", "loss": "0.9264", "±": "", "accuracy": "51.5 %",
        "macro F1": "", "cost to serve": "other data, for orientation",
    }  # fmt: skip


def test_every_candidate_has_its_weight_and_what_became_of_it():
    page = read(write_report(make_report()))
    assert page.row("Candidates", "seed-2") == {
        "candidate": "seed-2", "weight": "0.250", "loss": "0.6500", "accuracy": "79.0 %",
        "parameters": "1.4 M", "size": "5.4 MB", "time": "2.6 s",
        "what became of it": "kept: rank 2 of 4",
    }  # fmt: skip
    rotten = page.row("Candidates", "bit-rot")
    assert (rotten["weight"], rotten["loss"]) == ("", "11.9000")
    assert rotten["what became of it"].startswith("dropped: loss 11.9 is worse than")
    assert rotten["what became of it"].endswith("absmax 3.1e+38 in dense.weight")
    weights = {row["source"]: row["weight"] for row in page.tables["Where it came from"]}
    assert weights == {"seed-1": "0.2600", "seed-2": "0.2500", "seed-3": "0.2400",
                       "seed-4": "0.2300"}  # fmt: skip


def test_the_gate_shows_each_comparison_with_its_bounds():
    page = read(write_report(make_report()))
    assert page.row("The gate", "night-2026-11-23 (incumbent)") == {
        "against": "night-2026-11-23 (incumbent)", "gain": "+0.0452", "SE": "0.0121",
        "lower bound": "+0.0253", "upper bound": "+0.0651", "examples": "480", "clusters": "480",
        "detectable": "0.0301",
    }  # fmt: skip
    assert page.row("The gate", "seed-1 (best candidate)")["lower bound"] == "+0.0526"


def test_the_report_says_how_near_candidates_are_to_the_fused_model():
    files = write_report(make_report())
    page = read(files)
    assert page.row("The fused tensors", "seed-4") == {
        "candidate": "seed-4", "cosine to the fused model": "0.9260 (22.2°)",
        "furthest": "0.9060 (25.0°)", "in tensor": "layers.5.dense.weight",
    }  # fmt: skip
    (lead,) = page.leads["The fused tensors"]
    assert "8.3 % of the elements" in lead
    data, warning = page.warnings
    assert data.startswith("The end of 6 texts was not read: the models read 128 tokens")
    assert warning.startswith("Warning: the norm of the fused model is 0.94")
    assert "| seed-4 | 0.9260 (22.2°) |" in files["report.md"].decode()
    without = write_report(make_report(health=None))
    assert "The fused tensors" not in read(without).tables
    assert "in tensor" not in without["report.md"].decode()


def test_the_same_value_gives_the_same_bytes():
    assert write_report(make_report()) == write_report(make_report())


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "math", "control", "pipe", "long"])
def test_hostile_text_is_shown_and_never_obeyed(text):
    files = write_report(poisoned(make_report(), text))
    page = files["report.html"].decode()
    reader = read(files)
    assert "script" not in reader.tags
    assert reader.handlers == []
    assert "\0" not in page
    assert "\x1b" not in page
    note = files["report.md"].decode()
    prose = [line for line in note.splitlines() if not line.startswith("    ")]  # else code
    assert "<script>" not in "\n".join(prose)
    rows = [line for line in note.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (5, 6, 7) for line in rows)


@pytest.mark.parametrize("decision", ["HOLD", "REFUSE"])
def test_other_verdicts_have_their_report(decision):
    verdict = Verdict(decision, "undecided", "needs about 4,562 examples", (), (), 4562)
    report = make_report(verdict=verdict, headline="Not decided: needs about 4,562 examples")
    files = write_report(report)
    page = read(files)
    assert f'class="badge {decision}"' in files["report.html"].decode()
    assert page.badge == BADGES[decision]
    assert page.title == "Not decided: needs about 4,562 examples"


REASONS = {
    "REFUSE": "loss 0.0012 lower than the best candidate a; needs about 4,562 examples",
    "HOLD": "guard accuracy failed against a: its lower bound -0.1 is not above -0.01",
}


@pytest.mark.parametrize("decision", REASONS)
def test_a_verdict_is_said_once(decision):
    verdict = Verdict(decision, "undecided", REASONS[decision], (), (), 4562)
    said = write_headline(verdict, TERMS)
    assert said[0].isupper()
    files = write_report(make_report(verdict=verdict, headline=said))
    badge = BADGES[decision]
    note = files["report.md"].decode()
    assert note.splitlines()[0] == f"# {badge}: {markdown_cell(said)}"
    page = " ".join(read(files).text)
    for text in (note, page):
        assert text.count(REASONS[decision][20:40]) == 1 + text.count("<title>")
        assert "Not decided" not in text
        assert "Held" not in text
    assert f"Gate: {badge}\n" in note


HARD = Comparison(
    "nightly-1", "incumbent", -0.0377, 0.01, -0.054, -0.0214, -0.057, -0.018, 99, 400, 100, 0.02
)


def test_a_held_verdict_has_one_kind_of_interval():
    text = (
        "loss 0.0377 higher than the incumbent; the one-sided 95 % upper bound, -0.0214, is below 0"
    )
    verdict = Verdict("HOLD", "not_better", text, (HARD,))
    (_, bounds) = read(write_report(make_report(verdict=verdict))).leads["The gate"]
    assert bounds.startswith("Bounds are one-sided, 95.0 % each")


def test_an_accuracy_that_falls_is_told_beside_the_loss():
    change = AccuracyChange(-0.025, -0.06, 0.01, 20, 30, None)
    row = AccuracyRow("lr-1", "best_candidate", change)
    files = write_report(make_report(accuracies=(row,)))
    page = " ".join(read(files).text)
    assert "-2.5 points" in page
    assert "no difference beyond chance" in page
    assert "is sure by" in page
    assert "Accuracy against lr-1: -2.5 points" in files["report.md"].decode()


def test_scores_that_are_not_numbers_are_shown_as_such():
    report = make_report()
    first = report.candidates[0]
    broken = replace(first, rank=replace(first.rank, loss=float("nan")))
    rows = tuple(replace(row, high95=float("inf")) for row in report.forest)
    page = read(write_report(make_report(candidates=(broken,), forest=rows)))
    assert page.row("Candidates", first.name)["loss"] == "nan"


def test_without_a_forest_there_is_no_plot():
    page = read(write_report(make_report(forest=())))
    assert page.tags.count("svg") == 6


def test_numbers_have_human_units():
    sizes = [format_bytes(value) for value in (0, 999, 1_400_000, 141e9)]
    assert sizes == ["0 B", "999 B", "1.4 MB", "141.00 GB"]
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
