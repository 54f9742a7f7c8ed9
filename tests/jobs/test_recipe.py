import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import RecipeError
from jobs.recipe import parse_merge_block, parse_recipe, parse_size
from jobs.strict_yaml import load_yaml

WHOLE = """\
name: nightly
candidates: [ckpts/*, "s3://bucket/run-42/step-*/"]
select: {keep: 5, max_parameters: 2B, max_bytes: 4GiB, settle: 10m}
task:
  kind: text-classification
  data: data/reviews.parquet
  columns: {text: review, label: stars}
weights: {rule: softmax, temperature: 0.5}
merge: {method: linear, dtype: bfloat16}
output: s3://bucket/merged
gate: {smallest_effect: 0.01, alpha: 0.005, guards: [{metric: accuracy, margin: 0.01}]}
schedule: {cron: "0 4 * * *", zone: Europe/Paris, overlap: skip, catch_up: 6h}
resources:
  merge: {workers: 8, memory: 512MiB}
  evaluate: {num_gpus: 0.5, memory: 4GB, time_limit: 1h}
"""


def parse(text, folder="/here"):
    return parse_recipe(text, name="recipe.yaml", folder=folder)


def mistakes(text):
    with pytest.raises(RecipeError) as caught:
        parse(text)
    return str(caught.value)


def test_a_whole_recipe_has_plain_units():
    recipe = parse(WHOLE)
    assert recipe.candidates == ("/here/ckpts/*", "s3://bucket/run-42/step-*/")
    assert recipe.task.data == "/here/data/reviews.parquet"
    assert recipe.output == "s3://bucket/merged"
    assert (recipe.select.max_parameters, recipe.select.max_bytes) == (2_000_000_000, 4 << 30)
    assert recipe.select.settle_seconds == 600
    assert recipe.merge.dtype == "BF16"
    assert recipe.resources.merge.memory_bytes == 512 << 20
    assert recipe.resources.evaluate.memory_bytes == 4_000_000_000
    assert recipe.resources.evaluate.limit_seconds == 3600
    assert recipe.text == WHOLE


def test_comments_layout_schedule_and_resources_do_not_change_the_digest():
    base = parse(WHOLE).digest
    assert parse("# hello\n" + WHOLE).digest == base
    assert parse(WHOLE.replace("workers: 8", "workers: 2")).digest == base
    assert parse(WHOLE.replace("0 4 * * *", "0 5 * * *")).digest == base
    assert parse(WHOLE.replace("temperature: 0.5", "temperature: 0.6")).digest != base


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: nightly", "name: Nightly!", "recipe.yaml:1: name: expected lower-case"),
        ("keep: 5", "keep: 0", "recipe.yaml:3: select.keep:"),
        (
            "settle: 10m",
            "settle: soon",
            "3: select.settle: expected something like 10m",
        ),
        ("4GiB", "4 gigs", "recipe.yaml:3: select.max_bytes: expected something like 1GiB"),
        ("text-classification", "translation", "recipe.yaml:5: task.kind: expected"),
        ("columns", "colums", "recipe.yaml:7: task.colums: unknown key; did you mean 'columns'?"),
        ("temperature: 0.5", "temperature: auto", "auto is not offered yet"),
        ("temperature: 0.5", "temperature: 0", "recipe.yaml:8: weights.temperature:"),
        ("rule: softmax", "rule: fixed", "recipe.yaml:8: weights: values are given"),
        ("method: linear", "method: ties", "method 'ties' is not supported; supported: linear"),
        ("bfloat16", "int8", "recipe.yaml:9: merge.dtype: 'int8' is not one of"),
        ("alpha: 0.005", "alpha: 0.9", "recipe.yaml:11: gate.alpha:"),
        ("metric: accuracy", "metric: vibes", "recipe.yaml:11: gate.guards.0.metric: expected"),
        ("workers: 8", "workers: 0", "recipe.yaml:14: resources.merge.workers:"),
        ("output: s3://bucket/merged", "", "recipe.yaml:1: output: missing"),
        ("kind: text-classification", "kind: text-classification\n  slices: {rank: 0.9}", "sum to"),
    ],
)
def test_each_mistake_has_its_line_and_plain_words(old, new, message):
    assert old in WHOLE
    assert message in mistakes(WHOLE.replace(old, new))


def test_all_mistakes_come_at_once_in_line_order():
    text = WHOLE.replace("keep: 5", "keep: x").replace("alpha: 0.005", "alpha: 9")
    text = text.replace("candidates:", "candidats:")
    lines = mistakes(text).splitlines()
    assert lines[0].startswith("4 mistakes")
    numbers = [int(line.split(":")[1]) for line in lines[1:]]
    assert numbers == sorted(numbers)
    assert any("did you mean 'candidates'?" in line for line in lines)


def test_a_list_is_no_recipe():
    assert "a mapping of keys expected, found list" in mistakes("- a\n- b\n")
    assert "found NoneType" in mistakes("")


YAML_TRAPS = {
    "an alias": ("a: &x [1]\nb: *x\n", "anchors and aliases are not read"),
    "a tag": ("a: !!python/object:os.system x\n", "tags such as"),
    "a repeated key": ("a: 1\nb: 2\na: 3\n", "f:3: a: given twice, first in line 1"),
    "deep nesting": ("[" * 5000 + "]" * 5000, "nested more than 32 deep"),
    "no YAML": ("a: [1\n", "f:2: not YAML"),
    "a large file": ("# " + "x" * (1 << 20), "larger than"),
}


@pytest.mark.parametrize("name", YAML_TRAPS)
def test_a_yaml_trap_is_refused(name):
    text, message = YAML_TRAPS[name]
    with pytest.raises(RecipeError) as caught:
        load_yaml(text, name="f")
    assert message in str(caught.value)


def test_words_stay_words_and_numbers_are_numbers():
    text = (
        "a: no\nb: on\nc: 1e-3\nd: 0o7\ne: 2026-11-24\nf: 1:30\ng: true\nh: null\ni: 12\nj: 1_0\n"
    )
    assert load_yaml(text, name="f").value == {
        "a": "no", "b": "on", "c": 1e-3, "d": "0o7", "e": "2026-11-24", "f": "1:30", "g": True,
        "h": None, "i": 12, "j": "1_0",
    }  # fmt: skip


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_a_value_or_a_typed_error(text):
    try:
        load_yaml(text, name="f")
    except RecipeError:
        return


def test_a_merge_block_takes_its_part_of_a_recipe():
    text = WHOLE.replace("weights: {rule: softmax, temperature: 0.5}", "weights: {rule: uniform}")
    block = parse_merge_block(text, name="recipe.yaml", folder="/here")
    assert block.candidates[0] == "/here/ckpts/*"
    with pytest.raises(RecipeError, match="softmax needs losses"):
        parse_merge_block(WHOLE, name="recipe.yaml", folder="/here")


def test_sizes():
    assert parse_size("1.5 GiB") == 3 << 29
    with pytest.raises(RecipeError):
        parse_size("lots")
