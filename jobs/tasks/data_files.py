"""Where evaluation data stands: one file, several, a folder or a pattern; pinned and read."""

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import MissingPlaceError, NotFoundError, PreconditionError
from cluster.stores.open_store import open_file, open_store
from cluster.stores.seals import seal, split_seal
from fusion.canonical import digest, to_json
from fusion.checkpoints.checkpoint import Pin
from fusion.nearest import find_near
from jobs.candidates.absent import describe_absent
from jobs.candidates.changes import changed, changes_error, describe_change, make_pin
from jobs.candidates.patterns import WILD
from jobs.errors import DataError
from jobs.tasks.contract import DataFile, EvaluationTask
from jobs.tasks.data import check_column
from jobs.tasks.table import DELIMITED, Table, join_tables, parse_table, plain_ending

NO_DATA = (
    "check the path or URI under task.data (relative ones begin at the recipe's folder); nothing "
    "was evaluated"
)
HASH_SIGN = 'a " #" begins a comment in YAML: put the path in quotes; nothing was evaluated'
LISTED = 5
READ_ENDINGS = (".parquet", *DELIMITED, ".jsonl", ".ndjson", ".json")
# The etag of several files' pins begins so: no store's etag does.
SEVERAL = "files-"


@dataclass(frozen=True, slots=True)
class PinnedData:
    """What `task.data` stands for; `files` is () for the one file at `data`."""

    data: str
    pin: Pin
    files: tuple[DataFile, ...] = ()


def find_data(named: str | Sequence[str], *, pin: Pin | None = None) -> PinnedData:
    """Find and pin the data: a file, a folder, a pattern for the last part, or a list of these.

    A name that exists is taken before it is read as a pattern. A folder stands for the files below
    it whose names end as data does, hidden ones left out.

    Args:
        named: `task.data` of the recipe.
        pin: what an earlier driver pinned; one file is then not looked at.

    Raises:
        DataError: no such file, or none in the folder.
        SourceChangedError: several files are no longer what was pinned.
    """
    if isinstance(named, str) and pin is not None and not pin.etag.startswith(SEVERAL):
        return PinnedData(named, pin)
    places = (named,) if isinstance(named, str) else tuple(named)
    try:
        found = [_expand(place) for place in places]
    except MissingPlaceError as error:
        raise DataError(f"task.data: {error}", NO_DATA) from None
    files = tuple(file for several in found for file in several)
    _refuse_twice([file.uri for file in files])
    data = ", ".join(places)
    if isinstance(named, str) and files[0].uri == named:
        return PinnedData(named, files[0].pin)
    pins = tuple(
        (file.uri, file.pin.size, _without_time(file.pin.etag), file.pin.version) for file in files
    )
    size = sum(file.pin.size for file in files)
    now = Pin(size, SEVERAL + digest(to_json(pins)), None)
    if pin is not None and pin != now:
        raise changes_error([describe_change(data, pin, now)])
    return PinnedData(data, now, files)


def read_table(task: EvaluationTask) -> Table:
    """The pinned table, of one file or of several.

    Raises:
        DataError: a file cannot be read as a table, or of several one lacks a column.
        SourceChangedError: a file is no longer what was pinned.
    """
    names = (*task.columns.values(), task.id, task.cluster)
    wanted = tuple(dict.fromkeys(name for name in names if name))
    return read_files(task.files or (DataFile(task.data, task.pin),), wanted)


def read_files(files: Sequence[DataFile], wanted: Sequence[str]) -> Table:
    """One table of pinned files, with the columns that all of them have.

    Raises:
        DataError: a file cannot be read as a table, or of several one lacks a wanted column.
        SourceChangedError: a file is no longer what was pinned.
    """
    tables = []
    for file in files:
        table = parse_table(_read(file), file.uri, wanted)
        if len(files) > 1:
            for name in wanted:
                check_column(table, file.uri, name)
        tables.append((file.uri.rpartition("/")[2], table))
    return join_tables(tables, wanted)


def find_passed(named: str | Sequence[str], files: Sequence[DataFile]) -> tuple[str, ...]:
    """Files in folders of data that are not read, as their names do not end as data does.

    Args:
        named: `task.data` of the recipe.
        files: the files that it stands for; () for one file, beside which nothing is looked for.
    """
    places = [place.rstrip("/") for place in ((named,) if isinstance(named, str) else named)]
    folders = [p for p in places if any(file.uri.startswith(f"{p}/") for file in files)]
    return tuple(
        f"{folder}/{entry.key}"
        for folder in folders
        for entry in open_store(folder).list()
        if not _is_hidden(entry.key) and not _is_data(entry.key)
    )


def _refuse_twice(uris: Sequence[str]) -> None:
    """Refuse a file that is named twice: its rows would count twice.

    Raises:
        DataError: names the file.
    """
    seen: dict[str, str] = {}
    for uri in uris:
        real = uri if "://" in uri else os.path.realpath(uri)
        if real in seen:
            raise DataError(
                f"task.data: {uri} is given twice (as {seen[real]}): its rows would count twice; "
                "nothing was evaluated",
                "name each file once",
            )
        seen[real] = uri


def _read(file: DataFile) -> bytes:
    store, name = open_file(file.uri)
    try:
        return store.read(name, if_match=file.pin.etag, version=file.pin.version)
    except (PreconditionError, NotFoundError):
        raise changed(store, name, file.pin) from None


def _expand(place: str) -> tuple[DataFile, ...]:
    """The files that one name stands for: itself, those of its folder, or those of its pattern."""
    root, name = open_file(place.rstrip("/"))
    folder = place.rstrip("/").rpartition("/")[0] or "."
    try:
        if not place.endswith("/"):
            return (DataFile(place, make_pin(root, root.head(name))),)
    except NotFoundError:
        pass
    store, prefix = open_store(place), place.rstrip("/")
    below = [entry for entry in store.list() if _is_data(entry.key)]
    wild = WILD.search(name)
    if not below and wild:
        store, prefix = root, folder
        entries = root.list(name[: wild.start()])
        below = [e for e in entries if "/" not in e.key and fnmatch.fnmatchcase(e.key, name)]
    if not below:
        near = [] if root.is_remote else _find_near(folder, name)
        beside = f"; beside it lies {', '.join(near)}" if near else ""
        if not near and not wild:
            beside = describe_absent(place, kind="dataset")
        raise DataError(
            f"task.data: {place} does not exist, or holds no data{beside}",
            HASH_SIGN if any(" #" in entry for entry in near) else NO_DATA,
        )
    below.sort(key=lambda entry: entry.key)
    return tuple(DataFile(f"{prefix}/{e.key}", make_pin(store, e)) for e in below)


def _find_near(folder: str, name: str) -> list[str]:
    """Names of data in a folder on disk that are like a name."""
    place = Path(folder).expanduser()
    try:
        there = sorted(entry.name for entry in place.iterdir() if _is_data(entry.name))
    except OSError:
        return []
    begin = [entry for entry in there if name and entry.startswith(name)]
    return (begin or find_near(name, there, count=LISTED))[:LISTED]


def _is_data(key: str) -> bool:
    return not _is_hidden(key) and plain_ending(key) in READ_ENDINGS


def _is_hidden(key: str) -> bool:
    return any(part.startswith((".", "_")) for part in key.split("/"))


def _without_time(etag: str) -> str:
    """A sealed etag without its change time, which a new mode or hard link changes too."""
    plain, changed_ns, checksum = split_seal(etag)
    return plain if changed_ns is None else seal(plain, 0, checksum)
