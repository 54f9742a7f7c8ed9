"""mergekit's YAML -> the same merge request that a recipe gives. `merge_method: linear` for now.

Behaviour follows mergekit 0.1.5 where it is well defined: precedence of parameters, filters,
gradients, a base model that joins the inputs, canonical GPT-2 names, tied heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.dtypes import parse_dtype
from fusion.errors import MethodError
from fusion.nearest import ask_meant
from fusion.plans.method_specs import METHOD_SPECS
from jobs.errors import RecipeError
from jobs.mergekit.values import check_values
from jobs.recipes.strict_yaml import Document, load_yaml

TOP_KEYS = (
    "models", "slices", "modules", "merge_method", "base_model", "parameters", "dtype",
    "out_dtype", "tokenizer_source", "tokenizer", "chat_template",
)  # fmt: skip
WHOLE = "a merge of whole models is, listed under models"
FIRST = "that of base_model, else of the first model, is kept (--no-copy-tokenizer leaves it out)"
# What a document may not ask for yet: why, and what to do.
LATER = {
    "slices": ("layers of several models are not stacked", WHOLE),
    "modules": ("parts of a model are not merged apart", WHOLE),
    "tokenizer_source": (f"no tokenizer is built; {FIRST}", "leave it out where that one is meant"),
    "tokenizer": (f"no tokenizer is built; {FIRST}", "leave it out where that one is meant"),
    "chat_template": (f"no template is set; {FIRST}", "leave it out, set it in the output"),
}


@dataclass(frozen=True, slots=True)
class MergekitDocument:
    """A mergekit document that can be carried out.

    Attributes:
        method: a name of METHOD_SPECS.
        models: paths of the models in list order, as written; BASE+ADAPTER for an adapter.
        parameters: parameters of each model, in the order of `models`.
        shared: parameters of the top level.
        base_model: path of the base model; "" where there is none.
        dtype: dtype that inputs are cast to; "" for no cast.
        out_dtype: dtype of the output; "" for the working dtype.
        folder: folder that relative paths start from.
        warnings: what was ignored in the document, for people.
    """

    method: str
    models: tuple[str, ...]
    parameters: tuple[Mapping[str, Any], ...]
    shared: Mapping[str, Any]
    base_model: str
    dtype: str
    out_dtype: str
    folder: str
    warnings: tuple[str, ...]

    @property
    def uris(self) -> tuple[str, ...]:
        """Where the models are; of adapters, where the adapter is."""
        return tuple(self._located(model.rpartition("+")[2]) for model in self.models)

    @property
    def bases(self) -> tuple[str, ...]:
        """Where the bases of those models are that are adapters; "" for whole models."""
        stems = [model.rpartition("+")[0] for model in self.models]
        return tuple(self._located(stem) if stem else "" for stem in stems)

    def _located(self, path: str) -> str:
        is_whole = "://" in path or path.startswith(("/", "arn:"))
        return path if is_whole else str(Path(self.folder) / path)


def is_mergekit(text: str, *, name: str) -> bool:
    """Whether a YAML document is mergekit's."""
    value = load_yaml(text, name=name).value
    return isinstance(value, dict) and "merge_method" in value


def parse_mergekit(text: str, *, name: str, folder: str) -> MergekitDocument:
    """A document from its text.

    Raises:
        RecipeError: the text is no mergekit document, or has a part that is not offered.
        MethodError: the merge method is not offered.
    """
    document = load_yaml(text, name=name)
    _check_offered(document)
    check_values(document)
    table = document.value
    warnings = _unknown(table, TOP_KEYS, "top-level key")
    models, parameters = _models(document, warnings)
    base = str(table.get("base_model") or "")
    shared = table.get("parameters") or {}
    warnings += _unknown(shared, ("weight", "normalize"), "parameter")
    if base and base not in models:
        warnings.append(
            f"base_model {base} is not under models: it joins the average as last input"
        )
        models.append(base)
        parameters.append({})
    return MergekitDocument(
        method=table["merge_method"],
        models=tuple(models),
        parameters=tuple(parameters),
        shared=shared,
        base_model=base,
        dtype=_dtype(table.get("dtype"), document, "dtype"),
        out_dtype=_dtype(table.get("out_dtype"), document, "out_dtype"),
        folder=folder,
        warnings=tuple(warnings),
    )


def _check_offered(document: Document) -> None:
    name = document.name
    table = document.value if isinstance(document.value, dict) else {}
    method = table.get("merge_method")
    if not isinstance(method, str) or method not in METHOD_SPECS:
        line = document.line(("merge_method",))
        known = ", ".join(METHOD_SPECS)
        raise MethodError(
            f"{name}:{line}: merge_method {method!r} is not supported; supported: {known}. "
            "Nothing was read.",
            "set merge_method: linear",
        )
    for key, (reason, way) in LATER.items():
        if key in table:
            line = document.line((key,))
            raise RecipeError(
                f"{name}:{line}: {key} is not supported: {reason}. Nothing was read.", way
            )


def _models(document: Document, warnings: list[str]) -> tuple[list[str], list[Mapping[str, Any]]]:
    models: list[str] = []
    parameters: list[Mapping[str, Any]] = []
    for index, entry in enumerate(document.value["models"]):
        where = f"{document.name}:{document.line(('models', index))}: models.{index}"
        parts = entry["model"].split("+")
        if any("@" in part.rpartition("/")[2] for part in parts):
            raise RecipeError(f"{where}: revisions (@) are not supported")
        if len(parts) > 2 or not all(parts):
            raise RecipeError(f"{where}: expected PATH or BASE+ADAPTER, found {entry['model']!r}")
        if entry["model"] in models:
            raise RecipeError(f"{where}: {entry['model']} is listed twice")
        own = entry.get("parameters") or {}
        warnings += _unknown(entry, ("model", "parameters"), "key of a model")
        warnings += _unknown(own, ("weight",), "parameter")
        models.append(entry["model"])
        parameters.append(own)
    return models, parameters


def _unknown(table: Mapping[str, Any], known: Sequence[str], what: str) -> list[str]:
    return [
        f"{what} {key!r} has no effect{ask_meant(str(key), known)}"
        for key in table
        if key not in known
    ]


def _dtype(value: object, document: Document, key: str) -> str:
    if value is None:
        return ""
    try:
        return parse_dtype(str(value))
    except ValueError as error:
        raise RecipeError(f"{document.name}:{document.line((key,))}: {key}: {error}") from None
