"""What every key of a recipe means: for people, for editors, and for docs/recipe.md."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from fusion.nearest import find_near
from jobs.errors import RecipeError
from jobs.recipes.fields import UNITS
from jobs.recipes.recipe import Recipe

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"
# Names of constraints that pydantic leaves as they are where a number is read by a function.
CONSTRAINTS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
}  # fmt: skip
WORDS = {
    "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
    "exclusiveMaximum": "below",
}  # fmt: skip


class _AsWritten(GenerateJsonSchema):
    """Keys in the order in which the recipe's types name them."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a recipe.

    Attributes:
        path: the blocks that the key is in and its name, with dots: `weights.temperature`.
        type: what may stand there, in words.
        default: value as YAML where the key is left out; "" for a key that is needed.
        text: what the key changes.
        example: lines of YAML that give the key a value, with the blocks it is in.
    """

    path: str
    type: str
    default: str
    text: str
    example: str


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    made = _plain_schema(Recipe.model_json_schema(by_alias=True, schema_generator=_AsWritten))
    made["properties"].pop("\0text", None)
    return {"$schema": SCHEMA_ID, **made, "title": "Recipe of metafuse"}


def read_keys() -> tuple[Key, ...]:
    """Every key of a recipe, blocks before what is in them."""
    schema = recipe_schema()
    return tuple(_walk(schema, schema["$defs"], ()))


def find_keys(name: str) -> tuple[Key, ...]:
    """The keys of a path, and those below it; a name alone stands for all keys that end so.

    Raises:
        RecipeError: there is no such key; the hint has the nearest.
    """
    keys = read_keys()
    found = tuple(key for key in keys if key.path == name or key.path.startswith(f"{name}."))
    found = found or tuple(key for key in keys if key.path.rpartition(".")[2] == name)
    if not found:
        names = [*(key.path for key in keys), *(key.path.rpartition(".")[2] for key in keys)]
        near = find_near(name, names, likeness=0.5)
        raise RecipeError(
            f"{name}: no key of a recipe",
            f"did you mean {near[0]}?" if near else "metafuse recipe lists all keys",
        )
    return found


def explain(key: Key) -> str:
    """A key for a terminal."""
    needed = f"default {key.default}" if key.default else "needed"
    example = "\n".join(f"      {line}" for line in key.example.splitlines())
    return f"{key.path}\n  {key.text}\n  {key.type}; {needed}\n{example}\n"


def write_reference() -> str:
    """docs/recipe.md: a table for each block."""
    keys = read_keys()
    parts = [INTRODUCTION]
    blocks = dict.fromkeys(key.path.rpartition(".")[0] for key in keys)
    for block in blocks:
        own = [key for key in keys if key.path.rpartition(".")[0] == block]
        title = f"`{block}`" if block else "The recipe"
        told = next((f"{key.text}\n" for key in keys if key.path == block), "")
        rows = "\n".join(_row(key) for key in own)
        parts.append(f"## {title}\n\n{told}\n| key | what it changes | type | default | example |\n"
                     f"|---|---|---|---|---|\n{rows}\n".replace("\n\n\n", "\n\n"))  # fmt: skip
    return "\n".join(parts)


INTRODUCTION = """# Recipe

A recipe is YAML: plain values, no anchors, no tags. `metafuse plan recipe.yaml` lists every mistake
in it with its line, and `metafuse recipe --explain weights.temperature` says what a key means.
Sizes are written as 4GiB or 500MB, times as 10m, 6h or 14d. Editors that know JSON schemas complete
and check the keys:

    metafuse recipe --schema > recipe.schema.json
    # first line of the recipe:
    # yaml-language-server: $schema=recipe.schema.json

This page is made from the types that read the recipe.
"""


def _row(key: Key) -> str:
    name = key.path.rpartition(".")[2]
    example = json.dumps(_inner(yaml.safe_load(key.example), key.path), ensure_ascii=False)
    cells = (f"`{name}`", key.text, key.type, f"`{key.default}`" if key.default else "needed",
             f"`{example}`")  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _inner(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value[0][name] if isinstance(value, list) else value[name]
    return value


def _plain_schema(value: Any) -> Any:
    """The schema without generated titles, its numbers bounded in the schema's own words."""
    if isinstance(value, list):
        return [_plain_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {CONSTRAINTS.get(key, key): item for key, item in value.items()}
    if isinstance(named.get("title"), str):
        named.pop("title")
    return {key: _plain_schema(item) for key, item in named.items()}


def _walk(
    block: Mapping[str, Any], blocks: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[Key]:
    needed = block.get("required", [])
    for name, field in block["properties"].items():
        inner = _block_of(field, blocks)
        path = (*above, name)
        default = "" if name in needed else _default(field)
        example: Any = field["examples"][0]
        for step in reversed(path):
            example = {step: example}
        yield Key(
            path=".".join(path),
            type="a block" if inner else _type(field, blocks),
            default="its keys' own" if inner and default.startswith("{") else default,
            text=field.get("description") or (inner or {})["description"],
            example=yaml.safe_dump(example, sort_keys=False, default_flow_style=None).strip(),
        )
        below = inner or _block_of(field.get("items", {}), blocks)
        if below is not None:
            yield from _walk(below, blocks, path)


def _block_of(field: Mapping[str, Any], blocks: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The block that a key holds; None for a plain value or a list."""
    for choice in (field, *field.get("anyOf", ())):
        if "$ref" in choice:
            found: Mapping[str, Any] = blocks[choice["$ref"].rpartition("/")[2]]
            return found
    return None


def _default(field: Mapping[str, Any]) -> str:
    """A default as it would be written: 1GiB, 7d."""
    value = field.get("default", {})
    units = UNITS.get(field.get("x-unit", ""), {})
    for unit, size in sorted(units.items(), key=lambda pair: -pair[1]):
        if value and unit and value % size == 0 and size > 1:
            return f"{value / size:g}{unit}"
    if value is None:
        return "none"
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return json.dumps(value)


def _type(field: Mapping[str, Any], blocks: Mapping[str, Any]) -> str:
    if "x-unit" in field:
        *number, text = field["anyOf"]
        alone = "as a number or " if number else ""
        return f"{field['x-unit']}, {alone}such as {text['examples'][0]}"
    if "anyOf" in field:
        return " or ".join(_type(c, blocks) for c in field["anyOf"] if c.get("type") != "null")
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if "$ref" in field:
        inner = blocks[field["$ref"].rpartition("/")[2]]
        return "a mapping of " + " and ".join(inner["properties"])
    if field.get("type") == "array":
        return f"a list of: {_type(field['items'], blocks)}"
    if field.get("type") == "object":
        return f"a mapping of names to: {_type(field['additionalProperties'], blocks)}"
    names = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
    bounds = " and ".join(f"{word} {field[key]}" for key, word in WORDS.items() if key in field)
    return " ".join(filter(None, (names.get(field.get("type", ""), "text"), bounds)))
