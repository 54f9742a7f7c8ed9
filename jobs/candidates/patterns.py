"""What a path, glob or s3:// prefix stands for: URIs of checkpoints, and short names for them."""

import fnmatch
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UnsupportedError
from cluster.stores.open_store import open_store
from cluster.stores.store import ObjectInfo, Store
from jobs.candidates.absent import describe_absent
from jobs.candidates.links import SNAPSHOTS, find_dead_links, find_linked_keys, is_inside
from jobs.candidates.shards import INDEX, TRAINING_NAMES, find_pickle, is_pickle_name

WILD = re.compile(r"[*?\[]")
SNIFFED_FILES = 64


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one pattern stands for.

    Attributes:
        uris: URIs of checkpoints, whole or not, sorted.
        place: URI that the pattern names, up to its first wildcard.
        own: URIs that are left out because the work itself writes there.
        note: what the pattern led to, for the error that says that nothing was found.
        passed: what else the pattern matches, in words: files, folders without a checkpoint, links
            that lead nowhere.
    """

    uris: tuple[str, ...]
    note: str
    place: str
    own: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


def expand_pattern(pattern: str, *, output: str | None = None) -> Expansion:
    """Find the checkpoints that a pattern stands for.

    A folder that holds no shard of its own stands for those right below it that do. "**" in a glob
    stands for any number of folders; a pattern for shards stands for the folders they are in.
    A name that exists is taken as it is, whatever signs are in it.

    Args:
        pattern: path, glob or s3:// prefix.
        output: URI of a place that the work writes to; what lies there is no candidate unless it is
            named itself. None for none.

    Raises:
        UnsupportedError: a store that is not offered, or a glob over buckets.
    """
    root, globs = _split_pattern(pattern)
    if globs and _is_shard_name(globs[-1]):
        globs = globs[:-1]
    store = open_store(root)
    entries = list(store.list())
    if not entries and not globs and _is_shard_name(posixpath.basename(root)):
        store = open_store(posixpath.dirname(root))
        entries = list(store.list())
    keys = [entry.key for entry in entries]
    keys += find_linked_keys(store)
    kinds = _find_folders(keys)
    if globs:
        every = {ancestor for folder in kinds for ancestor in _with_ancestors(folder)}
        matched = [folder for folder in every if folder and _matches(folder.split("/"), globs)]
    elif not kinds and _holds_pickle(store, entries):
        kinds, matched = {"": False}, [""]
    else:
        matched = [""]
    folders = sorted({folder for match in matched for folder in _stand_for(match, kinds)})
    place = store.uri.rstrip("/")
    found = [f"{place}/{folder}" if folder else store.uri for folder in folders]
    own = tuple(uri for uri in found if uri != store.uri and output and is_inside(uri, output))
    uris = tuple(uri for uri in found if uri not in own)
    note = _describe(len(keys), folders, kinds) + _find_deeper(pattern, matched, folders, kinds)
    note += describe_absent(place) if not keys and not globs else ""
    passed = _find_passed(store, keys, globs, [*folders, *kinds])
    return Expansion(uris, note, store.uri, own, passed)


def find_root(pattern: str) -> str:
    """The URI of a pattern up to its first wildcard, under which all lies that it stands for."""
    return _split_pattern(pattern)[0]


def short_names(uris: Sequence[str]) -> dict[str, str]:
    """The shortest end of each URI that no other has: "seed-7", or "run-1/step-9"."""
    tails = {uri: _tails(uri) for uri in uris}
    counts = Counter(tail for found in tails.values() for tail in found)
    return {
        uri: next((tail for tail in found if tail and counts[tail] == 1), uri)
        for uri, found in tails.items()
    }


def _tails(uri: str) -> list[str]:
    parts = uri.rstrip("/").split("/")
    return ["/".join(parts[-depth:]) for depth in range(1, len(parts) + 1)]


def _split_pattern(pattern: str) -> tuple[str, list[str]]:
    """The URI before the first part with a wildcard, and the parts from there on."""
    scheme, separator, place = pattern.partition("://")
    if not separator:
        scheme, place = "", pattern
    if pattern.startswith("arn:"):
        return pattern, []  # no path: the store says what it is
    parts = place.split("/")
    first = _first_wild(parts, scheme + separator)
    if separator and scheme != "file" and first == 0:
        raise UnsupportedError(
            f"{pattern} has a wildcard where its bucket stands; nothing was listed",
            "name the bucket: s3://BUCKET/prefix-*",
        )
    root = "/".join(parts[:first]) or ("/" if place.startswith("/") else "")
    if scheme in ("", "file"):
        root = posixpath.normpath(Path(root).expanduser().absolute())
    else:
        root = root.rstrip("/")
    return scheme + separator + root, [part for part in parts[first:] if part]


def _first_wild(parts: Sequence[str], scheme: str) -> int:
    """Index of the first part that is a pattern: a name that exists is taken as it is."""
    for index, part in enumerate(parts):
        if WILD.search(part) and not _exists("/".join(parts[: index + 1]), scheme):
            return index
    return len(parts)


def _exists(place: str, scheme: str) -> bool:
    if scheme in ("", "file://"):
        return Path(place).expanduser().exists()
    # A bucket's name has no such sign. Stars are no part of keys in practice, and asking costs.
    is_asked = "/" in place and "*" not in place
    return is_asked and next(open_store(scheme + place).list(), None) is not None


def _is_shard_name(name: str) -> bool:
    return name.endswith((".safetensors", INDEX)) or is_pickle_name(name)


def _find_folders(keys: Iterable[str]) -> dict[str, bool]:
    """Folders that look like checkpoints; True where they hold a shard or an index."""
    kinds: dict[str, bool] = {}
    for key in keys:
        folder, _, file = key.rpartition("/")
        if file.endswith(".safetensors") or file == INDEX:
            kinds[folder] = True
        elif file == "config.json" or (is_pickle_name(file) and not TRAINING_NAMES.fullmatch(file)):
            kinds.setdefault(folder, False)
    return kinds


def _with_ancestors(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _matches(parts: Sequence[str], globs: Sequence[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        visible = bool(parts) and not parts[0].startswith(".")
        return _matches(parts, globs[1:]) or (visible and _matches(parts[1:], globs))
    if not parts or (parts[0].startswith(".") and not globs[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], globs[0]) and _matches(parts[1:], globs[1:])


def _stand_for(folder: str, kinds: Mapping[str, bool]) -> list[str]:
    if kinds.get(folder):
        return [folder]
    stem = f"{folder}/" if folder else ""
    below = [
        child
        for child in kinds
        if child.startswith(stem)
        and child != folder
        and "/" not in child[len(stem) :]
        and not child[len(stem) :].startswith(".")
    ]
    if folder in kinds and not any(kinds[child] for child in below):
        return [folder]
    return below


def _find_passed(
    store: Store, keys: Sequence[str], globs: Sequence[str], taken: Sequence[str]
) -> tuple[str, ...]:
    """What a pattern matches beside checkpoints; of "**", which matches all there is, nothing."""
    if not globs or "**" in globs:
        return ()
    depth = len(globs)
    known = {"/".join(folder.split("/")[:depth]) for folder in taken}
    said = {}
    for key in keys:
        place = "/".join(key.split("/")[:depth])
        said[place] = "a file" if place == key else "a folder without a model"
    said |= {
        key: f"a link to {to}, which leads nowhere"
        for key, to in find_dead_links(store, depth=depth)
    }
    return tuple(
        f"{place} ({what})"
        for place, what in sorted(said.items())
        if place not in known and _matches(place.split("/"), globs)
    )


def _find_deeper(
    pattern: str, matched: Iterable[str], folders: Sequence[str], kinds: Iterable[str]
) -> str:
    """The pattern that reaches checkpoints which lie deeper than one folder below a match."""
    stems = tuple(f"{folder}/" for folder in matched)
    deeper = [kind for kind in kinds if stems and kind.startswith(stems)]
    if folders or not deeper:
        return ""
    first = min(deeper)
    parts = first.removeprefix(next(stem for stem in stems if first.startswith(stem))).split("/")
    way = [part if part == SNAPSHOTS else "*" for part in parts]
    return f"; {'/'.join((pattern.rstrip('/'), *way))} reaches it"


def _holds_pickle(store: Store, entries: Iterable[ObjectInfo]) -> bool:
    direct = [entry for entry in entries if "/" not in entry.key]
    return find_pickle(store, direct[:SNIFFED_FILES]) is not None


def _describe(num_files: int, folders: Sequence[str], kinds: Mapping[str, bool]) -> str:
    if folders:
        return f"{len(folders)} checkpoints"
    if not num_files:
        return "nothing is there"
    if kinds:
        return f"nothing matches; there is a checkpoint in {min(kinds) or 'the folder itself'}"
    return f"no checkpoint among {num_files} files"
