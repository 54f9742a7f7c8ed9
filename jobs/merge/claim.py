"""Where `metafuse merge` writes, and that it writes over nothing which is not its own.

One small object beside the output, `OUT.merging.json`, names the plan that is being written there.
It is put under the condition that there is none, before anything else is written, and removed
last: of two merges into one output one goes on, and an interrupted one is known again.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.errors import ManifestError
from fusion.manifests.model import ModelManifest
from fusion.plans.plan import MergePlan
from jobs.errors import OutputError, UsageError
from jobs.outputs.keys import MODEL_MANIFEST

LISTED = 3
UNTOUCHED = "Nothing was read or written."


@dataclass(frozen=True, slots=True)
class MergeOutput:
    """A folder to be: the store that it is in, its name there, and its URI."""

    store: Store
    name: str

    @property
    def uri(self) -> str:
        """Of the folder."""
        return f"{self.store.uri.rstrip('/')}/{self.name}"

    @property
    def claim(self) -> str:
        """Key of the object that names the plan being written."""
        return f"{self.name}.merging.json"

    def ledger(self, short: str) -> str:
        """Key of the folder of unit records of a plan."""
        return f"{self.name}.ledger-{short}"


def parse_output(out: str, *, folder: str) -> MergeOutput:
    """The store and the name that an OUT stands for; nothing is asked of the store yet.

    Args:
        out: a path, file:///path or s3://bucket/prefix.
        folder: folder that a relative path starts from.

    Raises:
        UsageError: `out` names no folder, or a key that no store has.
        UnsupportedError: `out` names another kind of store.
    """
    scheme, separator, rest = out.partition("://")
    if not separator or scheme == "file":
        path = rest if separator else out
        whole = os.path.normpath(Path(folder) / Path(path).expanduser()) if path else "/"
        parent, name = os.path.split(whole)
    else:
        place, *keys = rest.rstrip("/").split("/")
        if any(key in ("", ".", "..") for key in keys):
            raise UsageError(f"{out} is no key of a store: it has an empty part, . or ..")
        parent, name = "/".join([f"{scheme}://{place}", *keys[:-1]]), keys[-1] if keys else ""
    if not name:
        raise UsageError(
            f"OUT {out!r} names no folder. {UNTOUCHED}",
            "write a folder's path, or s3://BUCKET/PREFIX with a prefix",
        )
    return MergeOutput(open_store(parent), name)


def claim_output(output: MergeOutput, plan: MergePlan) -> ModelManifest | None:
    """Make sure that this plan may write to an output.

    Returns:
        The manifest where this plan's model stands there already, whole; None to go on.

    Raises:
        OutputError: the output is, holds or lies in a source; other files or another merge are in
            it, or were begun there.
    """
    _check_sources(output, plan.request.checkpoints)
    manifest = _find_manifest(output)
    if manifest is not None:
        _check_finished(output, manifest, plan)
        return manifest
    if _is_claimed(output, plan):
        return None
    _check_empty(output)
    try:
        content = json.dumps({"plan": plan.id}).encode()
        output.store.put(output.claim, content, if_absent=True)
    except PreconditionError:
        _is_claimed(output, plan)
        return None
    try:
        _check_empty(output)  # another merge may have ended meanwhile
    except OutputError:
        output.store.delete(output.claim)
        raise
    return None


def release_output(output: MergeOutput, plan: MergePlan) -> None:
    """Remove what only an unfinished merge needs; the claim last."""
    for entry in list(output.store.list(f"{output.ledger(plan.short)}/")):
        output.store.delete(entry.key)
    output.store.delete(output.claim)


def _check_sources(output: MergeOutput, sources: Sequence[Checkpoint]) -> None:
    here = _resolved(output.uri)
    for source in sources:
        there = _resolved(source.uri)
        relation = ""
        if here == there:
            relation = "is"
        elif here.startswith(there.rstrip("/") + "/"):
            relation = "lies in"
        elif there.startswith(here.rstrip("/") + "/"):
            relation = "holds"
        if relation:
            raise OutputError(
                f"{output.uri} {relation} the source {source.name}. {UNTOUCHED}",
                "name a folder of its own for the output",
            )


def _resolved(uri: str) -> str:
    return uri.rstrip("/") if "://" in uri else os.path.realpath(uri)


def _find_manifest(output: MergeOutput) -> ModelManifest | None:
    try:
        content = output.store.read(f"{output.name}/{MODEL_MANIFEST}")
        return from_json(ModelManifest, content)
    except (NotFoundError, ManifestError):
        return None


def _check_finished(output: MergeOutput, manifest: ModelManifest, plan: MergePlan) -> None:
    if manifest.plan != plan.id:
        names = ", ".join(source.name for source in manifest.sources)
        raise OutputError(
            f"{output.uri} holds another merge, plan {manifest.plan[:12]} of {names}; this one is "
            f"plan {plan.short}. {UNTOUCHED}",
            "name another folder, or remove that one first",
        )
    for file in manifest.files:
        try:
            size = output.store.head(f"{output.name}/{file.name}").size
        except NotFoundError:
            size = 0
        if size != file.size:
            raise OutputError(
                f"{output.uri}/{file.name} has {size:,} bytes, its manifest says {file.size:,}. "
                f"{UNTOUCHED}",
                f"remove {output.uri} and run the same command again",
            )


def _is_claimed(output: MergeOutput, plan: MergePlan) -> bool:
    """Whether this plan's merge was begun here; another one's is refused."""
    try:
        owner = str(json.loads(output.store.read(output.claim)).get("plan", ""))
    except NotFoundError:
        return False
    except (ValueError, AttributeError):
        owner = ""
    if owner != plan.id:
        rest = output.ledger(owner[:12])
        raise OutputError(
            f"another merge into {output.uri} has begun and is not finished, plan {owner[:12]}; "
            f"this one is plan {plan.short}. {UNTOUCHED}",
            "finish it with the command that began it, or, if nothing runs any more, remove "
            f"{output.name}, {output.claim} and {rest} from {output.store.uri}",
        )
    return True


def _check_empty(output: MergeOutput) -> None:
    found = [entry.key for entry in islice(output.store.list(f"{output.name}/"), LISTED)]
    if found:
        names = ", ".join(key.removeprefix(f"{output.name}/") for key in found)
        raise OutputError(
            f"{output.uri} is not empty: {names}; this merge did not write that. {UNTOUCHED}",
            "name a folder that is empty or does not exist",
        )
