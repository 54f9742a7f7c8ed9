"""The model card that goes with a fused model."""

from collections.abc import Mapping, Sequence

import yaml

from fusion.manifests.model import ModelManifest


def format_card(manifest: ModelManifest, *, title: str) -> str:
    """README.md: YAML front matter, what it is, its sources and how to make it again.

    Names of sources are data: they go through the YAML writer and are escaped in the table.
    """
    front = yaml.safe_dump(
        {"base_model_relation": "merge", "tags": ["merge", "metafuse"]}, sort_keys=True
    )
    rows = "".join(
        f"| {_cell(source.name)} | {source.weight:.6f} | {_cell(source.uri)} |\n"
        for source in manifest.sources
    )
    again: Mapping[str, object] = {
        "merge_method": manifest.method,
        "models": [
            {"model": source.uri, "parameters": {"weight": source.weight}}
            for source in manifest.sources
        ],
    }
    return (
        f"---\n{front}---\n\n# {_cell(title)}\n\n"
        f"The {manifest.method} merge of {len(manifest.sources)} checkpoints, made by metafuse. "
        "`manifest.json` has the digests of all files and the pins of all sources.\n\n"
        f"| source | weight | location |\n| --- | ---: | --- |\n{rows}\n"
        f"{_left_behind(manifest.notes)}"
        "The same merge as a mergekit document:\n\n"
        f"```yaml\n{yaml.safe_dump(again, sort_keys=True)}```\n"
    )


def _left_behind(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    lines = "".join(f"- {_cell(note)}\n" for note in notes)
    return f"Files beside the tensors that did not go with the model:\n\n{lines}\n"


def _cell(text: str) -> str:
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text)
    for sign in "\\`|<>[]":
        clean = clean.replace(sign, "\\" + sign)
    return clean
