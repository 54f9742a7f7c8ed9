"""The sentence above a report never says other than its figures, whatever verdict and mode."""

import re
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from fusion.evidence.headline import HEADLINES, Terms, write_headline
from fusion.evidence.verdict import Comparison, GuardResult, Verdict
from fusion.evidence.wording import describe_gain, format_signed

MODES = ("superior", "non_inferior")
MEASURES = (("loss", "nats"), ("mean squared error", ""))
INVALID = "the test is not valid: 80 gate examples, at least 100 are needed"


def comparison(mean, role="best_candidate", name="lr3e4-s3"):
    return Comparison(
        name, role, mean, 0.01, mean - 0.02, mean + 0.02, mean - 0.03, mean + 0.03, 99, 400, 100,
        0.02,
    )  # fmt: skip


def terms(mode="superior", measure=("loss", "nats"), incumbent=""):
    return Terms(mode, 0.03, *measure, "lr3e4-s3", incumbent)


def verdict(decision, reason, *means):
    pairs = [comparison(means[-1])]
    if len(means) > 1:
        pairs.insert(0, comparison(means[0], "incumbent", "nightly-1"))
    guards = (GuardResult("macro_f1", "lr3e4-s3", -0.1, 0.01, passed=reason != "guard"),)
    return Verdict(decision, reason, INVALID, tuple(pairs), guards, 4562)


def test_what_to_do_and_why_is_one_sentence():
    said = write_headline(verdict("HOLD", "not_better", -0.039), terms())
    assert said == "Keep candidate lr3e4-s3: the fused model's loss is 0.0390 nats higher"
    said = write_headline(
        verdict("PROMOTE", "better", 0.0452, 0.0813), terms(incumbent="nightly-1")
    )
    assert said == (
        "Use the fused model: its loss is 0.0452 nats lower than that of the incumbent nightly-1 "
        "and 0.0813 nats lower than that of the best candidate lr3e4-s3"
    )
    said = write_headline(verdict("HOLD", "guard", 0.01), terms())
    assert "fused model's macro f1 may be worse than that of lr3e4-s3 by more than" in said
    said = write_headline(verdict("REFUSE", "undecided", 0.0012), terms(measure=MEASURES[1]))
    assert said == (
        "Keep candidate lr3e4-s3 for now: the fused model's mean squared error is 0.0012 lower, "
        "and 400 examples are too few to be sure; about 4,562 are needed"
    )
    invalid = replace(verdict("REFUSE", "too_few_examples", 0.0), comparisons=())
    assert write_headline(invalid, terms()) == f"Keep candidate lr3e4-s3 for now: {INVALID}"


def test_where_the_incumbent_stays_the_rival_is_named():
    said = write_headline(verdict("HOLD", "not_better", 0.05, -0.02), terms(incumbent="nightly-1"))
    assert said == (
        "Keep the incumbent nightly-1: the fused model's loss is 0.0200 nats higher than that of "
        "the best candidate lr3e4-s3"
    )


@given(
    row=st.sampled_from(sorted(HEADLINES)),
    mode=st.sampled_from(MODES),
    measure=st.sampled_from(MEASURES),
    means=st.lists(st.floats(-2, 2), min_size=1, max_size=2),
)
@example(row=("HOLD", "not_better"), mode="superior", measure=MEASURES[0], means=[-0.0234])
@example(row=("HOLD", "not_better"), mode="superior", measure=MEASURES[0], means=[-0.00004])
@example(row=("PROMOTE", "better"), mode="non_inferior", measure=MEASURES[1], means=[0.1, -0.0])
def test_directions_are_those_of_the_figures(row, mode, measure, means):
    decision, reason = row
    incumbent = "nightly-1" if len(means) > 1 else ""
    said = write_headline(verdict(decision, reason, *means), terms(mode, measure, incumbent))
    assert "{" not in said
    assert "-0." not in said
    told = said.partition("; up to")[0]
    unit = f" {measure[1]}".rstrip()
    true = {
        f"{mean:.4f}{unit} lower" if mean > 0 else f"{-mean:.4f}{unit} higher" for mean in means
    }
    found = {match[0] for match in re.finditer(r"[0-9.]+( nats)? (lower|higher)", told)}
    assert found <= true
    if reason in ("better", "first_held", "not_better", "undecided"):
        assert found or "the same" in told
    assert not any(phrase.startswith("0.0000") for phrase in found)
    if "too little to matter" in told:
        assert "lower" in told


def test_every_verdict_of_the_gate_has_a_row_for_every_mode():
    reasons = {("PROMOTE", "better"), ("HOLD", "first_held"), ("HOLD", "guard"),
               ("HOLD", "not_better"), ("REFUSE", "undecided")}  # fmt: skip
    assert reasons <= HEADLINES.keys()
    assert {decision for decision, reason in HEADLINES if not reason} == {
        "PROMOTE",
        "HOLD",
        "REFUSE",
    }
    assert all(tuple(modes) == MODES for modes in HEADLINES.values())


def test_a_gain_that_is_printed_as_zero_is_no_gain():
    assert describe_gain(-0.00004, "nats") == "the same"
    assert describe_gain(0.00004, "", than="seed-1") == "the same as that of seed-1"


def test_a_number_has_one_sign_and_zero_none():
    values = (0.5, -0.5, -0.00001, 0.0, -0.0, float("nan"), float("-inf"))
    found = [format_signed(value) for value in values]
    assert found == ["+0.5000", "-0.5000", "0.0000", "0.0000", "0.0000", "nan", "-inf"]
