"""YAML without its traps: no anchors, tags, repeated keys or surprising types; with lines."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusion.nearest import find_near
from jobs.errors import RecipeError
from jobs.recipes.slips import explain_yaml, find_slip

WIDE = (b"\xff\xfe", b"\xfe\xff")
SUFFIXES = (".yaml", ".yml")
MAX_BYTES = 1 << 20
MAX_DEPTH = 32
NULL = "tag:yaml.org,2002:null"
ANCHORS = "anchors and aliases are not read; write it out"
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not plain YAML but does not hide the rest of the document.

    Attributes:
        line: line of the problem in the document.
        text: description of the problem, for people.
        path: path of the value that cannot be trusted; None where all values can be trusted.
    """

    line: int
    text: str
    path: Place | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document: plain values, the line of every key and entry, and what is wrong."""

    name: str
    value: Any
    lines: dict[Place, int]
    problems: tuple[Problem, ...] = ()

    def line(self, path: Place) -> int:
        """Line of what stands at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def is_broken(self, path: Place) -> bool:
        """Whether a problem lies at `path`, around it or within it, so that its value is moot."""
        return any(
            p.path is not None and (path[: len(p.path)] == p.path or p.path[: len(path)] == path)
            for p in self.problems
        )


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: true and false are the only booleans, 1e-3 is a number, no dates.

    Anchors, aliases and tags are noted and not obeyed: an alias stands for nothing at all.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.noted: list[tuple[yaml.Node | None, int, str]] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # no types in PyYAML
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            nothing = yaml.ScalarNode(NULL, "null", event.start_mark, event.end_mark)
            self.noted.append((nothing, line, ANCHORS))
            return nothing
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor or tag:
            event.anchor = event.tag = None
            event.implicit = (True, False) if isinstance(event, yaml.ScalarEvent) else True
        made = super().compose_node(parent, index)
        if anchor:
            self.noted.append((None, line, ANCHORS))
        if tag:
            self.noted.append((made, line, f"tags such as {tag!r} are not read"))
        return made


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


def read_text(path: Path) -> str:
    """The text of a recipe or merge document.

    Raises:
        RecipeError: no such file, a folder, or not UTF-8.
    """
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except IsADirectoryError:
        raise RecipeError(
            f"{path.absolute()} is a folder; the file of a recipe or document is asked. Nothing "
            "was read",
            _name_near(path, path),
        ) from None
    except OSError as error:
        raise RecipeError(
            f"{path.absolute()}: {error.strerror}; nothing was read", _name_near(path, path.parent)
        ) from None
    except UnicodeDecodeError as error:
        is_wide = error.object.startswith(WIDE)
        what = "text in UTF-16" if is_wide else f"not UTF-8 at byte {error.start}"
        raise RecipeError(f"{path}: {what}; nothing was read", "save the file as UTF-8") from None


def _name_near(path: Path, folder: Path) -> str:
    """The recipe that was meant, if one lies there."""
    try:
        there = sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    except OSError:
        there = []
    near = find_near(path.name, there) or there
    if not near:
        return "metafuse demo writes one to start from"
    return f"did you mean {path.parent / near[0] if folder == path.parent else path / near[0]}?"


def load_yaml(text: str, *, name: str) -> Document:
    """Parse one document, strictly.

    Args:
        text: the document, at most 1 MB, nested at most 32 deep.
        name: name of the file, for messages.

    Raises:
        RecipeError: the text is not plain YAML; the error begins with name:line.
    """
    document = read_yaml(text, name=name)
    if document.problems:
        raise RecipeError("\n".join(f"{name}:{p.line}: {p.text}" for p in document.problems))
    return document


def read_yaml(text: str, *, name: str) -> Document:
    """Parse one document; what does not hide the rest is left in its `problems`.

    Args:
        text: the document, at most 1 MB, nested at most 32 deep.
        name: name of the file, for messages.

    Raises:
        RecipeError: the text cannot be parsed, is too large or too deep; the error begins with
            name:line.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise RecipeError(f"{name}: larger than {MAX_BYTES:,} bytes; it was not read")
    slip = find_slip(text)
    if slip is not None:
        raise RecipeError(f"{name}:{slip.line}: {slip.text}; nothing was read", slip.hint)
    try:
        _check_depth(text, name)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        slip = explain_yaml(error, text)
        raise RecipeError(f"{name}:{slip.line}: {slip.text}", slip.hint) from None
    reading = _Reading({(): 1}, [], {})
    value = None if node is None else _plain(node, (), reading)
    problems = list(reading.problems)
    for noted, line, text_of_it in loader.noted:
        path = reading.paths.get(id(noted)) if noted is not None else None
        problems.append(Problem(line, text_of_it, path))
    return Document(name, value, reading.lines, tuple(sorted(problems, key=lambda p: p.line)))


def _check_depth(text: str, name: str) -> None:
    """Refuse deep nesting from the event stream, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise RecipeError(f"{name}:{line}: nested more than {MAX_DEPTH} deep")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is collected while nodes become values: lines, problems, paths by the node's id."""

    lines: dict[Place, int]
    problems: list[Problem]
    paths: dict[int, Place]


def _plain(node: yaml.Node, path: Place, reading: _Reading) -> Any:
    reading.paths[id(node)] = path
    if isinstance(node, yaml.MappingNode):
        return _plain_table(node, path, reading)
    if isinstance(node, yaml.SequenceNode):
        entries = []
        for index, entry in enumerate(node.value):
            reading.lines.setdefault((*path, index), entry.start_mark.line + 1)
            entries.append(_plain(entry, (*path, index), reading))
        return entries
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        where = ".".join(map(str, path))
        text = f"{where}: a number of {len(node.value):,} digits is not read"
        reading.problems.append(Problem(node.start_mark.line + 1, text, path))
        return None
    finally:
        loader.dispose()


def _plain_table(node: yaml.MappingNode, path: Place, reading: _Reading) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in table:
            first = reading.lines[(*path, key)]
            where = ".".join(map(str, (*path, key)))
            reading.problems.append(Problem(line, f"{where}: given twice, first in line {first}"))
            continue
        reading.lines[(*path, key)] = line
        table[key] = _plain(value_node, (*path, key), reading)
    return table
