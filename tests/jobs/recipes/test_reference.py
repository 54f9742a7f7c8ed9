"""Every key is explained, the page is what the types say, and editors see what we read."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from jobs.errors import RecipeError
from jobs.recipes.recipe import Recipe, parse_recipe
from jobs.recipes.reference import find_keys, read_keys, recipe_schema, write_reference
from tests.jobs.recipes.test_fields import fields_of
from tests.support.calling import call

REWRITE = (
    "the types say otherwise: python -c 'from jobs.recipes.reference import write_reference as w; "
    'print(w(), end="")\' > docs/recipe.md'
)
PAGE = Path(__file__).parents[3] / "docs" / "recipe.md"
SMALLEST = {
    "name": "n", "candidates": "c", "output": "o",
    "task": {"kind": "text-classification", "data": "d.csv"},
}  # fmt: skip
# What an example needs beside itself.
BESIDE = {
    "base": {}, "merge.output": {"base": "b"}, "select.keep": {},
    "weights.values": {"weights": {"rule": "fixed"}},
    "gate.guards.metric": {"gate": {"guards": [{"margin": 0}]}},
    "gate.guards.margin": {"gate": {"guards": [{"metric": "accuracy"}]}},
    "schedule.cron": {"schedule": {"zone": "UTC"}},
    "schedule.zone": {"schedule": {"cron": "0 4 * * *"}},
    "schedule.overlap": {"schedule": {"cron": "0 4 * * *", "zone": "UTC"}},
    "schedule.catch_up": {"schedule": {"cron": "0 4 * * *", "zone": "UTC"}},
    "task.slices.rank": {"task": {"slices": {"select": 0.1}}},
    "task.slices.select": {"task": {"slices": {"rank": 0.4}}},
    "task.slices.gate": {"task": {"slices": {"rank": 0.2}}},
    "task.slices.audit": {"task": {"slices": {"rank": 0.4}}},
}  # fmt: skip


def joined(one, other):
    if isinstance(one, list) and isinstance(other, list):
        return [joined(a, b) for a, b in zip(one, other, strict=True)]
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    both = {**one, **other}
    return {k: joined(one[k], other[k]) if k in one and k in other else both[k] for k in both}


def example_of(key):
    """The smallest recipe with the example of a key in it."""
    example = yaml.safe_load(key.example)
    if key.path.startswith("gate.guards."):
        example = {"gate": {"guards": [example["gate"]["guards"]]}}
    return joined(joined(SMALLEST, BESIDE.get(key.path, {})), example)


def test_every_key_of_the_types_is_told():
    paths = {key.path for key in read_keys()}
    assert set(fields_of(Recipe)) <= paths
    assert all(key.text.endswith(".") and key.example and key.type for key in read_keys())


@pytest.mark.parametrize("key", read_keys(), ids=lambda key: key.path)
def test_every_example_is_a_recipe_for_us_and_for_editors(key):
    document = example_of(key)
    parse_recipe(json.dumps(document), name="recipe.yaml", folder="/x")
    jsonschema.validate(document, recipe_schema())


@pytest.mark.parametrize(
    "change",
    [{"wieghts": {}}, {"weights": {"temperature": 0}}, {"gate": {"alpha": 0.5}},
     {"merge": {"output": "both"}}, {"retention": {"older_than": "14 moons"}},
     {"resources": {"merge": {"nic": 10}}}, {"resources": {"merge": {"nic": "10"}}},
     {"candidates": []}, {"name": "Nightly"}, {"task": {"kind": "regression"}}],
)  # fmt: skip
def test_editors_mark_what_we_refuse(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SMALLEST, **change}, recipe_schema())


def test_the_page_is_what_the_types_say():
    assert PAGE.read_text() == write_reference(), REWRITE


@pytest.mark.parametrize(
    ("name", "paths"),
    [("weights.temperature", ["weights.temperature"]), ("temperature", ["weights.temperature"]),
     ("schedule", [f"schedule{end}" for end in ("", ".cron", ".zone", ".overlap", ".catch_up")])],
)  # fmt: skip
def test_a_key_is_found_by_its_path_or_by_its_name(name, paths):
    assert [key.path for key in find_keys(name)] == paths


def test_a_key_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="tempereture: no key") as refused:
        find_keys("weights.tempereture")
    assert refused.value.hint == "did you mean weights.temperature?"


def test_the_verb_explains_and_writes_the_schema(capsys):
    status, out, _ = call(capsys, "recipe", "--explain", "older_than")
    assert status == 0
    assert "default 7d" in out
    status, out, _ = call(capsys, "recipe", "--schema")
    assert json.loads(out) == recipe_schema()
    status, _, err = call(capsys, "recipe", "--schema", "--explain", "gate")
    assert (status, "one of them" in err) == (2, True)
