"""The files beside the shards: config, tokenizer, index."""

import json
from collections.abc import Mapping

from cluster.errors import NotFoundError, PreconditionError, UnreachableError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile
from fusion.dtypes import TORCH_NAMES
from fusion.plans.adapter_request import ADAPTER_STEM, format_adapter_config
from fusion.plans.layout import format_index
from fusion.plans.method_specs import COPY
from fusion.plans.plan import MergePlan
from jobs.candidates.changes import changed
from jobs.candidates.side_files import ADAPTER_CONFIG
from jobs.candidates.travel import TOKENIZER_FILES
from jobs.merge.large_files import is_large


def make_side_files(
    plan: MergePlan, config: Mapping[str, object] | None, *, with_tokenizer: bool
) -> dict[str, bytes]:
    """What stands beside the shards of a plan's output, by name; not files that are copied."""
    request = plan.request
    if request.stem == ADAPTER_STEM:
        return {ADAPTER_CONFIG: format_adapter_config(request.candidates)}
    files = _travelling(plan, with_tokenizer=with_tokenizer)
    sides = {file.name: read_side_file(request.giver, file) for file in files if not is_large(file)}
    sides["config.json"] = format_config(plan, config)
    if len(plan.shards) > 1:
        sides["model.safetensors.index.json"] = format_index(plan)
    return sides


def find_large_files(plan: MergePlan, *, with_tokenizer: bool) -> tuple[PinnedFile, ...]:
    """Side files of the donor that go with the output and are copied in pieces."""
    return tuple(filter(is_large, _travelling(plan, with_tokenizer=with_tokenizer)))


def _travelling(plan: MergePlan, *, with_tokenizer: bool) -> list[PinnedFile]:
    if plan.request.stem == ADAPTER_STEM:
        return []
    return [
        file
        for file in plan.request.giver.side_files
        if with_tokenizer or not TOKENIZER_FILES.fullmatch(file.name)
    ]


def read_side_file(checkpoint: Checkpoint, file: PinnedFile) -> bytes:
    """A pinned side file, whole.

    Raises:
        SourceChangedError: it is no longer the pinned one.
    """
    store = open_store(checkpoint.uri)
    try:
        content = store.read(file.name, if_match=file.pin.etag, version=file.pin.version)
    except (PreconditionError, NotFoundError):
        raise changed(store, file.name, file.pin) from None
    if len(content) != file.pin.size:
        raise UnreachableError(
            f"{checkpoint.uri}/{file.name}: {len(content):,} of {file.pin.size:,} bytes "
            "arrived. Nothing was published.",
            "run the same command again",
        )
    return content


def format_config(plan: MergePlan, config: Mapping[str, object] | None) -> bytes:
    """config.json of the output: that of the donor, with the dtype that was written."""
    table = dict(plan.request.giver.config if config is None else config)
    dtypes = {t.dtype for t in plan.request.tensors if t.method != COPY}
    for key in ("dtype", "torch_dtype"):
        if key in table and len(dtypes) == 1:
            table[key] = TORCH_NAMES[next(iter(dtypes))]
    return json.dumps(table, indent=2, sort_keys=True).encode() + b"\n"
