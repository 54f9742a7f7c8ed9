"""Links of a file system: followed inside the place that the user named, and never out of it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cluster.stores.open_store import open_store
from cluster.stores.store import ObjectInfo, Store
from jobs.errors import UnsafeNameError

# A folder of the hub's cache: its snapshots are links to its blobs.
REPOSITORY, SNAPSHOTS = ("models--", "datasets--"), "snapshots"
WAY_OUT = "copy the file to where the link stands, or set select.on_refused: drop"


def is_inside(uri: str, place: str) -> bool:
    """Whether a folder or file is or lies in a place, links followed."""
    if "://" in uri or "://" in place:
        return f"{uri.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")
    return Path(os.path.realpath(uri)).is_relative_to(_boundary(place))


def check_folder(uri: str, place: str, *, name: str) -> None:
    """Refuse a candidate whose folder is a link out of the named place.

    Raises:
        UnsafeNameError: it is one.
    """
    if not is_inside(uri, place):
        raise UnsafeNameError(
            f"{name} is a link that leaves {place}; it was not opened",
            "name the folder that the link leads to, or set select.on_refused: drop",
        )


def check_files(entries: Iterable[ObjectInfo], place: str, *, name: str) -> None:
    """Refuse files that are links out of the named place.

    Raises:
        UnsafeNameError: one is.
    """
    for entry in entries:
        if entry.outside and not is_inside(entry.outside, place):
            raise UnsafeNameError(
                f"{name}/{entry.key} is a link that leaves {place}; it was not opened", WAY_OUT
            )


def find_linked_keys(store: Store) -> Iterator[str]:
    """Keys of the files in folders that are links, which `store.list` does not enter.

    Of a link that leaves the store only the names right in it, so that it can be refused; nothing
    of a link to a folder that it stands in.
    """
    if "://" in store.uri:
        return
    root = store.uri
    for folder, below, _ in os.walk(root):
        for child in below:
            path = os.path.join(folder, child)  # noqa: PTH118  # as os.walk gives it
            if not os.path.islink(path):  # noqa: PTH114  # as above
                continue
            stem = os.path.relpath(path, root)
            real = os.path.realpath(path)
            if is_inside(folder, real):
                continue
            if is_inside(path, root):
                yield from (f"{stem}/{entry.key}" for entry in open_store(path).list())
            else:
                yield from (f"{stem}/{file}" for file in _names(real))


def find_dead_links(store: Store, *, depth: int) -> Iterator[tuple[str, str]]:
    """(key, what it names) of the links in a local folder that lead to nothing.

    Args:
        store: store of the folder.
        depth: number of parts of the keys that are looked for.
    """
    if "://" in store.uri:
        return
    for folder, below, names in os.walk(store.uri):
        if len(Path(folder).relative_to(store.uri).parts) + 1 < depth:
            continue
        below.clear()
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() and not path.exists():
                yield path.relative_to(store.uri).as_posix(), os.readlink(path)  # noqa: PTH115  # text


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  # names are wanted
    except OSError:
        return []


def _boundary(place: str) -> Path:
    """What a place may lead to: itself, and for a snapshot of the hub's cache its repository."""
    real = Path(os.path.realpath(place))
    for folder in (real, *real.parents):
        if folder.name == SNAPSHOTS and folder.parent.name.startswith(REPOSITORY):
            return folder.parent
    return real
