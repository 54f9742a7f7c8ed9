"""The base of an adapter that metafuse wrote, from the manifest beside it."""

from cluster.errors import NotFoundError
from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from jobs.candidates.adapters import Base, describe_pins
from jobs.candidates.pin import pin_checkpoint
from jobs.candidates.side_files import ADAPTER_CONFIG
from jobs.errors import SourceChangedError


def find_written_base(uri: str) -> Base | None:
    """The base of an output; None where the output is a whole model.

    Only for outputs of our own: the manifest names a place, which is opened.

    Raises:
        SourceChangedError: the base that is there is not the one the adapter was made for.
    """
    store = open_store(uri)
    try:
        store.head(ADAPTER_CONFIG)
        written = from_json(ModelManifest, store.read("manifest.json")).base
    except NotFoundError:
        return None
    if written is None:
        return None
    base = Base(*pin_checkpoint(written.uri, name=written.name))
    if describe_pins(base.checkpoint) != dict(written.pins):
        raise SourceChangedError(
            f"{uri} is an adapter of {written.uri}, which is no longer what it was when the "
            "adapter was made",
            "bring the base back as it was, or merge again",
        )
    return base
