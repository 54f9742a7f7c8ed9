"""What may have been meant by a place on disk where nothing is: a folder beside it, a hub id."""

import re
import shlex
from pathlib import Path
from typing import Literal

from cluster.stores.open_store import download_command
from fusion.nearest import find_near

# A part of an id of the Hugging Face hub, such as bert-base-uncased or google/flan-t5-base.
ID_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FILE_NAME = re.compile(
    r".*\.(safetensors|bin|pth?|ckpt|gguf|json|jsonl|ndjson|csv|tsv|txt|parquet|ya?ml|gz|zst|zip)",
    re.IGNORECASE,
)


def describe_absent(place: str, *, kind: Literal["model", "dataset"] = "model") -> str:
    """The end of a sentence that says that nothing is there; "" where there is no more to say.

    Names the existing folder that is most like the place, and what brings the place from the
    Hugging Face hub where it may be an id: OWNER/NAME in a folder without OWNER, or one name in the
    working directory that is like none there.

    Args:
        place: path or URI as it is read, without wildcards. Of stores only folders are looked at.
        kind: what is looked for.
    """
    path = Path(place.removeprefix("file://")).expanduser().absolute()
    if ("://" in place and not place.startswith("file://")) or path.exists():
        return ""
    there = next(folder for folder in path.parents if folder.exists())
    lacking = path.relative_to(there).parts
    near = _find_near(there, lacking)
    said = f"; did you mean {near}?" if near else ""
    is_whole = near is not None and len(near.relative_to(there).parts) == len(lacking)
    if not is_whole and _may_be_id(there, lacking):
        name = "/".join(lacking)
        command = download_command(name, kind=kind, folder=shlex.quote(str(path)))
        said += f"; ids of the Hugging Face hub are not downloaded: {command} brings {name}"
    return said


def _find_near(there: Path, lacking: tuple[str, ...]) -> Path | None:
    """The folder that is most like the first of the names, or like the last."""
    try:
        folders = [entry.name for entry in there.iterdir() if entry.is_dir()]
    except OSError:
        return None
    visible = [name for name in sorted(folders) if not name.startswith(".")]
    for name, below in ((lacking[0], lacking[1:]), (lacking[-1], ())):
        for near in find_near(name, visible):
            meant = there.joinpath(near, *below)
            return meant if meant.is_dir() else there / near
    return None


def _may_be_id(there: Path, lacking: tuple[str, ...]) -> bool:
    if len(lacking) == 1:
        is_placed = there == Path.cwd()  # bert-base-uncased and others of its age have no owner
    else:
        is_placed = len(lacking) == 2 and there != Path(there.anchor)
    return (
        is_placed and all(map(ID_PART.fullmatch, lacking)) and not FILE_NAME.fullmatch(lacking[-1])
    )
