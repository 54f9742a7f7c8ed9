"""What a recipe and its task are called stays, or every output would start anew."""

import pytest

from fusion.checkpoints.checkpoint import Pin
from jobs.recipes.recipe import parse_recipe
from jobs.run.prepare import make_task

SMALL = """\
name: nightly
candidates: [s3://b/c/*]
task: {kind: text-classification, data: s3://b/eval.parquet}
output: s3://b/out
"""
WHOLE = """\
name: full
candidates: [s3://b/c/*, s3://b/d]
base: s3://b/base
select: {keep: 5, max_parameters: 2B, max_bytes: 4GiB, settle: 10m, min_candidates: 3, on_mismatch: drop, on_refused: drop}
task:
  kind: text-classification
  data: s3://b/eval.csv
  columns: {text: review, label: stars, id: key, cluster: doc}
  slices: {rank: 0.4, select: 0.1, gate: 0.4, audit: 0.1}
  batch_size: 8
  max_length: 128
weights: {rule: softmax, temperature: 0.25}
merge: {method: linear, dtype: bfloat16, on_nonfinite: exclude_and_reweight, output: adapter, health: full}
output: s3://b/out
gate: {smallest_effect: 0.02, alpha: 0.01, guards: [{metric: accuracy, margin: 0.01}, {metric: macro_f1, margin: 0.02}], first: hold, mode: non_inferior, margin: 0.03}
schedule: {cron: "0 4 * * *", zone: Europe/Paris}
baselines: []
resources: {merge: {workers: 3}}
retention: {keep: 9}
"""  # noqa: E501  # to the letter
FIXED = """\
name: fixed
candidates: [s3://b/a, s3://b/b]
task: {kind: text-classification, data: s3://b/eval.parquet, max_length: 64}
weights: {rule: fixed, values: {a: 0.25, b: 0.75}}
output: s3://b/out
"""
PIN = Pin(1234, '"e"', None)


def parse(text):
    return parse_recipe(text, name="recipe.yaml", folder="/x")


@pytest.mark.parametrize(
    ("text", "recipe", "task"),
    [
        (
            SMALL,
            "65d1de903455a1cb7739253a49d7b1c941c3ab08530ae3ef87a103e81b42af5d",
            "b0a1a7ae147e9c3f6f3dcec3a42cf976456835d1f0127915a6293691049d587e",
        ),
        (
            WHOLE,
            "c5fcac193e03f366c25601f3fdde2ae267deecba41916ef3b00151aff99529e4",
            "b39f38bc741b76c5f65bdbb39c85ede73a148537b53a3ea6444fa54da490ba52",
        ),
        (
            FIXED,
            "50fd4abe83d2fdcda248ada725bbcb8fc7d9e103fbe999c0edc18523d873f91c",
            "4848e2644bcfee73cd8d36f45bc83fe4be5222e6e5b5e0018035926c02f0146d",
        ),
    ],
    ids=["small", "whole", "fixed"],
)
def test_a_recipe_and_its_task_keep_their_digests(text, recipe, task):
    found = parse(text)
    assert found.digest == recipe
    assert make_task(found, pin=PIN).digest == task


def test_labels_are_part_of_both_identities_where_they_are_given():
    named = SMALL.replace("eval.parquet}", "eval.parquet, labels: {1: bad, 2: 1}}")
    one, other = parse(SMALL), parse(named)
    assert one.digest != other.digest
    assert make_task(one, pin=PIN).digest != make_task(other, pin=PIN).digest
    assert make_task(other, pin=PIN).labels == {"1": "bad", "2": 1}
