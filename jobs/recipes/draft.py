"""A first recipe, with a comment where a person should look."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What needs no quotes and is read as a text; what YAML reads as something else is quoted.
PLAIN = re.compile(r"[A-Za-z_./~][A-Za-z0-9_./~:+*-]*")
OTHERWISE = re.compile(r"(?i)true|false|null|~|yes|no|on|off|\.inf|\.nan|\.[0-9].*|.*:")
NAME = re.compile(r"[^a-z0-9]+")
LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class Draft:
    """What a first recipe says.

    Attributes:
        name: name of the recipe.
        candidates: folders and patterns.
        output: place of the results.
        kind: kind of task.
        data: places of the data; () where none was named.
        columns: column by role, as the kind has them.
        labels: (value in the data, meaning) in YAML, where they are not the same.
        slices: shares of the slices, where the usual ones are not meant; {} for the usual.
        smallest_effect: smallest gain worth having, in units of the loss.
        base: base of adapters; None for none.
        remarks: comment by key: candidates, data, columns, labels, slices, gate.
    """

    name: str
    candidates: Sequence[str]
    output: str
    kind: str
    data: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[tuple[str, str]] = ()
    slices: Mapping[str, float] = field(default_factory=dict)
    smallest_effect: float = 0.01
    base: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)


def format_draft(draft: Draft) -> str:
    """The recipe in YAML."""
    lines = [
        "# What a key means: metafuse recipe --explain KEY, such as gate.smallest_effect.",
        "# What a run would do, and all that it would refuse: metafuse plan FILE.",
        f"name: {quote(draft.name)}",
        *_remark(draft, "candidates"),
        *_listed("candidates", draft.candidates, ""),
        *([f"base: {quote(draft.base)}"] if draft.base is not None else []),
        "",
        "task:",
        f"  kind: {draft.kind}",
        *_data(draft),
        *_remark(draft, "columns", "  "),
        f"  columns: {_flow(draft.columns)}",
    ]
    if draft.labels:
        lines += [*_remark(draft, "labels", "  "), "  labels:"]
        lines += [f"    {value}: {meaning}" for value, meaning in draft.labels]
    if draft.slices:
        lines += [*_remark(draft, "slices", "  "), f"  slices: {_flow(draft.slices)}"]
    lines += [
        "",
        "# softmax gives candidates of a lower loss more; a smaller temperature, yet more.",
        "weights: {rule: softmax, temperature: 1.0}",
        "",
        *_remark(draft, "gate"),
        f"gate: {{smallest_effect: {draft.smallest_effect:g}}}",
        "",
        "# Runs and the pointer to the promoted model; one recipe, one output.",
        f"output: {quote(draft.output)}",
    ]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A text as YAML has it, in quotes where it would be read as something else."""
    if PLAIN.fullmatch(text) and not OTHERWISE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def recipe_name(text: str) -> str:
    """A name for a recipe from that of a folder."""
    return NAME.sub("-", text.lower()).strip("-")[:LONGEST_NAME].rstrip("-") or "recipe"


def _data(draft: Draft) -> list[str]:
    if not draft.data:
        return [
            "  # The labelled examples: Parquet, CSV, TSV or JSON; see docs/data.md.",
            "  data: evaluation.parquet",
        ]
    return [*_remark(draft, "data", "  "), *_listed("data", draft.data, "  ")]


def _listed(key: str, values: Sequence[str], indent: str) -> list[str]:
    if len(values) == 1:
        return [f"{indent}{key}: {quote(values[0])}"]
    return [f"{indent}{key}:", *(f"{indent}- {quote(value)}" for value in values)]


def _flow(table: Mapping[str, str] | Mapping[str, float]) -> str:
    entries = (
        f"{key}: {quote(value) if isinstance(value, str) else value}"
        for key, value in table.items()
    )
    return "{" + ", ".join(entries) + "}"


def _remark(draft: Draft, key: str, indent: str = "") -> list[str]:
    return [f"{indent}# {line}" for line in draft.remarks.get(key, "").splitlines()]
