"""`metafuse merge` on two small checkpoints: documents, the command, the manifest of `out`."""

from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from tests.support.calling import call

DOCUMENT = """\
models:
  - {model: a, parameters: {weight: 0.25}}
  - {model: b, parameters: {weight: 0.75}}
merge_method: linear
"""
BLOCK = "candidates: [a, b]\nweights: {rule: uniform}\n"


def merge(capsys, *arguments):
    """Exit status, stdout and stderr of `metafuse merge`."""
    return call(capsys, "merge", *arguments)


def manifest(place):
    return from_json(ModelManifest, (place / "out" / "manifest.json").read_bytes())
