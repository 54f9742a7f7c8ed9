"""Every field of a recipe either makes another run of it or is listed as one without effect."""

import json

from pydantic import BaseModel

from jobs.recipes.recipe import WITHOUT_EFFECT, Recipe, parse_recipe

BASE = {
    "name": "nightly", "candidates": ["s3://b/c/*"], "output": "s3://b/out",
    "task": {"kind": "text-classification", "data": "s3://b/eval.parquet"},
}  # fmt: skip
# Another value for every field, and what must stand beside it.
OTHERS = {
    "name": "other",
    "candidates": ["s3://b/d/*"],
    "base": "s3://b/base",
    "output": "s3://b/elsewhere",
    "select.keep": 4,
    "select.max_parameters": 10**9,
    "select.max_bytes": 10**9,
    "select.settle": 60,
    "select.min_candidates": 3,
    "select.on_mismatch": "drop",
    "select.on_refused": "drop",
    "task.kind": "regression",
    "task.data": "s3://b/other.parquet",
    "task.columns": {"text": "review"},
    "task.slices.rank": {"rank": 0.2, "select": 0.3},
    "task.slices.select": {"select": 0.1, "gate": 0.5},
    "task.slices.gate": {"gate": 0.5, "audit": 0.0},
    "task.slices.audit": {"audit": 0.2, "gate": 0.3},
    "task.batch_size": 8,
    "task.max_length": 64,
    "task.labels": {"1": "bad"},
    "weights.rule": "uniform",
    "weights.temperature": 0.5,
    "weights.values": {"rule": "fixed", "values": {"a": 1}},
    "merge.method": None,  # there is one
    "merge.dtype": "bfloat16",
    "merge.on_nonfinite": "exclude_and_reweight",
    "merge.output": "adapter",
    "merge.health": "full",
    "gate.smallest_effect": 0.5,
    "gate.alpha": 0.01,
    "gate.guards": [{"metric": "accuracy", "margin": 0.1}],
    "gate.first": "hold",
    "gate.mode": "non_inferior",
    "gate.margin": 0.1,
    "schedule": {"cron": "0 4 * * *", "zone": "Europe/Paris"},
    "baselines": [],
    "resources.merge.workers": 3,
    "resources.merge.memory": 2**31,
    "resources.merge.nic": "10Gbit",
    "resources.merge.on_head": True,
    "resources.evaluate.workers": 3,
    "resources.evaluate.num_cpus": 2,
    "resources.evaluate.num_gpus": 1,
    "resources.evaluate.accelerator_type": "A100",
    "resources.evaluate.memory": 2**31,
    "resources.evaluate.time_limit": 60,
    "notify": {"url_env": "METAFUSE_WEBHOOK_TWO"},
    "report.examples": 0,
    "retention.keep": 9,
    "retention.older_than": "60s",
    "single_writer": True,
}
NO_EFFECT = {
    "schedule", "notify", "single_writer", "merge.health",
    *(name for name in OTHERS if name.startswith(("report.", "resources.", "retention."))),
}  # fmt: skip
WHOLE = ("schedule", "notify")


def fields_of(kind, stem=""):
    """Names of all fields as written, blocks that are always there gone into."""
    for name, field in kind.model_fields.items():
        if field.exclude:
            continue
        path = f"{stem}{field.alias or name}"
        inner = field.annotation
        is_block = isinstance(inner, type) and issubclass(inner, BaseModel)
        if is_block and path not in WHOLE:
            yield from fields_of(inner, f"{path}.")
        else:
            yield path


def with_field(path, value):
    """The base recipe with another value at a path; for a share, and what it takes from others."""
    *blocks, last = path.split(".")
    document = {**BASE, "task": dict(BASE["task"])}
    place = document
    for block in blocks:
        place = place.setdefault(block, {})
    if isinstance(value, dict) and last in value:
        place.update(value)
    else:
        place[last] = value
    if path == "merge.output":
        document["base"] = "s3://b/base"
    return document


def digest_of(document):
    return parse_recipe(json.dumps(document), name="recipe.yaml", folder="/x").digest


def test_every_field_has_another_value_here():
    assert set(fields_of(Recipe)) == set(OTHERS)


def test_every_field_makes_another_run_or_stands_in_the_list_of_those_without_effect():
    for path, value in OTHERS.items():
        if path == "merge.method":
            continue
        document = with_field(path, value)
        before = {**BASE, "base": "s3://b/base"} if path == "merge.output" else BASE
        is_same = digest_of(document) == digest_of(before)
        assert is_same == (path in NO_EFFECT), path


def test_the_list_is_the_recipes_own():
    named = {name for name, inner in WITHOUT_EFFECT.items() if inner is True}
    parts = {name: keys for name, keys in WITHOUT_EFFECT.items() if keys is not True}
    assert parts == {"merge": {"health"}}
    assert {path for path in NO_EFFECT if path.partition(".")[0] not in named} == {"merge.health"}


def test_a_method_is_named_by_the_wish_that_the_request_carries():
    recipe = parse_recipe(json.dumps(BASE), name="recipe.yaml", folder="/x")
    assert recipe.merge.wish.method == recipe.merge.method
