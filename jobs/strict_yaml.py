"""YAML without its traps: no anchors, tags, repeated keys or surprising types; with lines."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from jobs.errors import RecipeError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document: plain values, and the line of every key and entry."""

    name: str
    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Line of what stands at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: true and false are the only booleans, 1e-3 is a number, no dates."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.nan",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def _construct_int(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    return int(str(node.value))


def _construct_float(loader: yaml.SafeLoader, node: yaml.Node) -> float:
    return float(str(node.value).replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load_yaml(text: str, *, name: str) -> Document:
    """Parse one document.

    Args:
        text: at most 1 MB, nested at most 32 deep.
        name: of the file, for messages.

    Raises:
        RecipeError: with name:line, for anything that is not plain YAML.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise RecipeError(f"{name}: larger than {MAX_BYTES:,} bytes; it was not read")
    try:
        _check_depth(text, name)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{name}:{line}: not YAML: {problem}") from None
    lines: dict[Path, int] = {(): 1}
    value = None if node is None else _plain(node, (), lines, name)
    return Document(name, value, lines)


def _check_depth(text: str, name: str) -> None:
    """Refuse anchors, tags and deep nesting from the event stream, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError(f"{name}:{line}: anchors and aliases are not read; write it out")
        tag = getattr(event, "tag", None)
        if tag:
            raise RecipeError(f"{name}:{line}: tags such as {tag!r} are not read")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RecipeError(f"{name}:{line}: nested more than {MAX_DEPTH} deep")


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        table: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in table:
                where = ".".join(map(str, (*path, key)))
                first = lines[(*path, key)]
                raise RecipeError(f"{name}:{line}: {where}: given twice, first in line {first}")
            lines[(*path, key)] = line
            table[key] = _plain(value_node, (*path, key), lines, name)
        return table
    if isinstance(node, yaml.SequenceNode):
        entries = []
        for index, entry in enumerate(node.value):
            lines.setdefault((*path, index), entry.start_mark.line + 1)
            entries.append(_plain(entry, (*path, index), lines, name))
        return entries
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    finally:
        loader.dispose()
