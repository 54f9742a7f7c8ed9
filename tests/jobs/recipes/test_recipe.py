import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.workers.runner import Resources
from jobs.console.sizes import parse_shard_size, parse_size
from jobs.errors import RecipeError
from jobs.recipes.recipe import parse_merge_block, parse_recipe
from jobs.recipes.strict_yaml import load_yaml

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
  merge: {workers: 8, memory: 512MiB, nic: 10Gbit, on_head: true}
  evaluate: {num_gpus: 0.5, accelerator_type: A100, memory: 4GB, time_limit: 1h}
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
    assert (recipe.resources.merge.nic_bits, recipe.resources.merge.on_head) == (10e9, True)
    assert recipe.resources.evaluate.memory_bytes == 4_000_000_000
    assert recipe.resources.evaluate.limit_seconds == 3600
    assert recipe.resources.evaluate.of_one == Resources(
        1.0, 0.5, 4_000_000_000, 3600.0, accelerator_type="A100"
    )
    assert recipe.text == WHOLE


def test_what_no_scheduler_takes_is_a_mistake_of_the_recipe():
    text = mistakes(WHOLE.replace("num_gpus: 0.5", "num_gpus: 1.5").replace("A100", "two words"))
    assert "resources.evaluate.num_gpus" in text
    assert "a share of one GPU or whole ones, found 1.5" in text
    assert "resources.evaluate.accelerator_type" in text


def test_an_age_of_a_number_alone_is_not_taken_for_seconds():
    assert "retention.older_than: expected an age such as 7d, found 7" in mistakes(
        WHOLE + "retention: {older_than: 7}\n"
    )


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
            "3: select.settle: expected a time such as 10m",
        ),
        ("4GiB", "4 gigs", "recipe.yaml:3: select.max_bytes: expected bytes such as 1GiB"),
        ("text-classification", "translation", "recipe.yaml:5: task.kind: expected"),
        (
            "kind: text-classification",
            "kind: text-clasification",
            "or your own as module:NAME, found 'text-clasification'; did you mean 'text-classifica",
        ),
        ("{text:", "{texd:", "recipe.yaml:7: task.columns.texd: unknown key; did you mean 'text'?"),
        (
            "kind: text-classification",
            "kind: text-classification\n  labels: {1: true}",
            "recipe.yaml:6: task.labels.1: expected a label or the number of a class, found True",
        ),
        (
            "kind: text-classification",
            "kind: regression\n  labels: {1: good}",
            "recipe.yaml:6: task.labels: regression has no labels",
        ),
        (
            "kind: text-classification",
            "kind: regression",
            "11: gate.guards.0.metric: expected pearson or spearman or mae or mse, found",
        ),
        ("metric: accuracy", "metric: Acuracy", "found 'Acuracy'; did you mean 'accuracy'?"),
        ("columns", "colums", "recipe.yaml:7: task.colums: unknown key; did you mean 'columns'?"),
        ("temperature: 0.5", "temperature: auto", "auto is not offered yet"),
        ("temperature: 0.5", "temperature: 0", "recipe.yaml:8: weights.temperature:"),
        ("rule: softmax", "rule: fixed", "recipe.yaml:8: weights: values are given"),
        (
            "method: linear, dtype: bfloat16",
            "dtype: bfloat16,\n  method: ties",
            "recipe.yaml:10: merge.method: 'ties' is not supported; supported: linear",
        ),
        ("name: nightly", "name: nightly\ntext: hello", "recipe.yaml:2: text: unknown key"),
        ("keep: 5", "keep: true", "recipe.yaml:3: select.keep: expected a number, found true"),
        ("keep: 5", "keep: 5.5", "recipe.yaml:3: select.keep:"),
        ("keep: 5", "keep: 1", "recipe.yaml:3: select.keep: 1 is less than min_candidates, 2"),
        ("keep: 5", "keep: 5, min_candidates: 6", "select.keep: 5 is less than min_candidates, 6"),
        ("temperature: 0.5", "temperature: .inf", "weights.temperature: expected a finite number"),
        ("smallest_effect: 0.01", "smallest_effect: .inf", "11: gate.smallest_effect: expected a"),
        ("smallest_effect: 0.01", "smallest_effect: .nan", "11: gate.smallest_effect: expected a"),
        ("margin: 0.01", "margin: true", "11: gate.guards.0.margin: expected a number, found true"),
        (
            "metric: accuracy",
            "metrik: accuracy",
            "11: gate.guards.0.metrik: unknown key; did you mean 'metric'?",
        ),
        ("catch_up", "catchup", "12: schedule.catchup: unknown key; did you mean 'catch_up'?"),
        ("0 4 * * *", "0 25 * * *", "12: schedule.cron: hour '25': 0 to 23 is possible"),
        ("0 4 * * *", "0 4 * *", "12: schedule.cron: '0 4 * *' has 4 fields, 5 are needed"),
        ("Europe/Paris", "Europe/Pariss", "did you mean 'Europe/Paris'?"),
        ("workers: 8", "workers: true", "14: resources.merge.workers: expected a number"),
        (
            "kind: text-classification",
            "kind: text-classification\n  slices: {rank: 0.6, select: 0.3, gate: 0, audit: 0.1}",
            "recipe.yaml:6: task.slices.gate: must be above 0",
        ),
        (
            "kind: text-classification",
            "kind: text-classification\n  slices: {rank: 0, select: 0.5, gate: 0.5, audit: 0}",
            "recipe.yaml:6: task.slices.rank: must be above 0",
        ),
        ("bfloat16", "int8", "recipe.yaml:9: merge.dtype: 'int8' is not one of"),
        ("alpha: 0.005", "alpha: 0.9", "recipe.yaml:11: gate.alpha:"),
        ("metric: accuracy", "metric: vibes", "recipe.yaml:11: gate.guards.0.metric: expected"),
        ("nic: 10Gbit", "nic: 10", "14: resources.merge.nic: expected bits a second such as"),
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


ODD_YAML = {
    "a key given twice": ("select: {keep: 4}\n", "recipe.yaml:16: select: given twice"),
    "an anchor": ("baselines: &x [uniform]\n", "recipe.yaml:16: anchors and aliases"),
    "an alias": ("baselines: *x\n", "recipe.yaml:16: anchors and aliases"),
    "a tag": ("baselines: !!python/name:os.system [uniform]\n", "recipe.yaml:16: tags such as"),
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_what_is_no_plain_yaml_hides_no_other_mistake(name):
    more, message = ODD_YAML[name]
    found = mistakes(WHOLE.replace("alpha: 0.005", "alpha: 9") + more)
    assert found.splitlines()[0].startswith("2 mistakes")
    assert "recipe.yaml:11: gate.alpha:" in found
    assert message in found


def test_an_alias_of_itself_is_refused_like_any_other():
    with pytest.raises(RecipeError, match="anchors and aliases are not read"):
        load_yaml("a: &x [*x]\n", name="f")


CRONS = {
    "0 4 * * *": True, "*/15 0-6,22 1,15 jan-jun mon-fri": True, "59 23 31 12 7": True,
    "0 4 * * sun": True, "@daily": False, "60 * * * *": False, "0 4 0 * *": False,
    "5-1 * * * *": False, "*/0 * * * *": False, "a * * * *": False, "": False, "1, * * * *": False,
}  # fmt: skip


@pytest.mark.parametrize("cron", CRONS)
def test_a_cron_line_is_checked_field_by_field(cron):
    text = WHOLE.replace("0 4 * * *", cron)
    if CRONS[cron]:
        parse(text)
    else:
        assert "recipe.yaml:12: schedule.cron: " in mistakes(text)


def test_a_list_is_no_recipe():
    assert "a mapping of keys expected, found list" in mistakes("- a\n- b\n")
    assert "found an empty file" in mistakes("")


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


def test_shard_sizes_are_mergekits():
    assert [parse_shard_size(text) for text in ("5B", "500m", "20K", "7")] == [
        5_000_000_000, 500_000_000, 20_000, 7,
    ]  # fmt: skip
    assert parse_shard_size("1GiB") == 1 << 30
