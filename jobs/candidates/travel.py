"""Which files of a checkpoint go with a model that is made of it, which stay behind, and why."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.stores.store import ObjectInfo
from fusion.checkpoints.checkpoint import LeftBehind
from fusion.errors import MismatchError
from jobs.candidates.shards import INDEX, TRAINING_NAMES
from jobs.console.figures import list_some

TOKENIZER_FILES = re.compile(
    r"tokenizer[\w.-]*\.json|(vocab|encoder|dict)[\w.-]*\.(json|txt|bpe)|merges\.txt|bpe\.codes"
    r"|special_tokens_map\.json|added_tokens\.json|[\w.-]*\.(model|spm|tiktoken)|tekken\.json"
    r"|chat_template\.(json|jinja)|(additional_)?chat_templates/[\w.-]+\.jinja|normalizer\.json",
    re.ASCII,
)
OTHER_FILES = re.compile(
    r"(generation_)?config\.json|([\w-]+_)?(pre)?processor_config\.json|modules\.json"
    r"|config_sentence_transformers\.json|sentence_[\w-]+_config\.json"
    r"|(configuration|modeling|modular|tokenization|processing|image_processing|video_processing"
    r"|feature_extraction|generation)_\w+\.py|(LICEN[CS]E|NOTICE|USE_POLICY)[\w.-]*",
    re.ASCII,
)
MODULES = "modules.json"
# What a model of metafuse has of its own.
WRITTEN_ANEW = ("README.md", "manifest.json", INDEX)
SAME_TENSORS = re.compile(
    r"(pytorch_model|model|consolidated|tf_model|flax_model|rust_model|diffusion_pytorch_model"
    r"|weights|best|last|final|checkpoint)[\w.=-]*\.(bin|pt|pth|ckpt|h5|msgpack|ot|onnx|gguf"
    r"|onnx_data|index\.json|tflite)|consolidated[\w.-]*\.safetensors|[\w.-]*\.(gguf|onnx|ckpt)",
    re.ASCII,
)
TRAINING = re.compile(
    r"trainer_state\.json|training_args\.\w+|(train|eval|all|test|predict)_results\.json"
    r"|events\.out\..*|[\w.-]*\.log|zero_to_fp32\.py|latest|sampler[\w.-]*|custom_checkpoint_\d+\.pkl"
    r"|dataloader[\w.-]*"
)
TENSOR_ENDS = (
    ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".npz", ".npy", ".pkl",
    ".pickle", ".ot",
)  # fmt: skip
SAFE_PARTS = re.compile(r"(?!\.{1,2}(/|$))[\w.+-]+(/(?!\.{1,2}(/|$))[\w.+-]+)*", re.ASCII)
HIDDEN = "a hidden file"


@dataclass(frozen=True, slots=True)
class Belongings:
    """The files of a checkpoint beside its shards.

    Attributes:
        side_files: names of those that go with a model, sorted; some are in folders.
        left_behind: those that do not, folders as one.
        lost: those that hold tensors which no merge takes in.
    """

    side_files: tuple[str, ...]
    left_behind: tuple[LeftBehind, ...]
    lost: tuple[str, ...]


def is_side_file(key: str) -> bool:
    """Whether a file with this name goes with a model, wherever it is."""
    return bool(TOKENIZER_FILES.fullmatch(key) or OTHER_FILES.fullmatch(key))


def sort_files(
    entries: Iterable[ObjectInfo],
    shards: Collection[str],
    *,
    modules: Sequence[str],
    is_adapter: bool,
) -> Belongings:
    """Tell by its name what each file is.

    Args:
        entries: all files of the checkpoint, those in folders as well.
        shards: names of its shards.
        modules: folders that modules.json names as parts of the model.
        is_adapter: whether these are the files of an adapter, of which none goes with a model.
    """
    sides, lost = [], []
    behind: dict[str, str] = {}
    for key in sorted(entry.key for entry in entries):
        folder = key.partition("/")[0] if "/" in key else ""
        is_part = any(key.startswith(f"{module}/") for module in modules)
        if key in shards or key in WRITTEN_ANEW:
            continue
        if not SAFE_PARTS.fullmatch(key):
            behind[key] = "a name that is not taken over"
        elif is_part and key.endswith(TENSOR_ENDS):
            lost.append(key)
        elif is_part or is_side_file(key):
            sides.append(key)
        elif folder:
            behind[f"{folder}/"] = HIDDEN if folder.startswith(".") else "a folder of its own"
        elif (reason := _find_reason(key)) is not None:
            behind[key] = reason
        elif key.endswith(TENSOR_ENDS) and not is_adapter:
            lost.append(key)
        else:
            behind[key] = "no part of a model that is known"
    left = tuple(LeftBehind(name, reason) for name, reason in behind.items())
    return Belongings(tuple(sides), left, tuple(lost))


def _find_reason(key: str) -> str | None:
    """Why a file of the checkpoint's own folder stays behind, where its name tells."""
    if key.startswith("."):
        return HIDDEN
    if TRAINING_NAMES.fullmatch(key) or TRAINING.fullmatch(key):
        return "state of the training"
    if SAME_TENSORS.fullmatch(key):
        return "the tensors in another format"
    return None


def find_modules(table: object, *, name: str) -> tuple[str, ...]:
    """Folders that a parsed modules.json names; () where there is none.

    Raises:
        MismatchError: the file is not a list of modules with paths inside the checkpoint.
    """
    if table is None:
        return ()
    paths = (
        [entry.get("path") for entry in table if isinstance(entry, Mapping)]
        if isinstance(table, list)
        else [None]
    )
    if not all(
        isinstance(path, str) and (not path or SAFE_PARTS.fullmatch(path)) for path in paths
    ):
        raise MismatchError(
            f"{name}/{MODULES} does not name the parts of the model by folders in it. Nothing was "
            "read.",
            "save it again: SentenceTransformer.save(folder)",
            "E-TENSORS",
        )
    return tuple(str(path) for path in paths if path)


def refuse_lost(lost: Sequence[str], *, name: str) -> None:
    """Refuse a checkpoint of which tensors would be lost in silence.

    Raises:
        MismatchError: names the files.
    """
    if lost:
        raise MismatchError(
            f"{name}: {list_some(lost, 3)} may hold tensors that are no part of the model "
            "which is merged (no index names them), and would be lost. No tensor data was read.",
            "move them away if the model does not need them; parts that were trained apart can be "
            "merged as checkpoints of their own",
            "E-TENSORS",
        )
