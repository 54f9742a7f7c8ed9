"""How a tokenizer cuts texts, beside its vocabulary: as its files say, and as it does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint

SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
TOKENIZER = "tokenizer.json"
# Parts of tokenizer.json that decide which tokens a text becomes.
PARTS = ("normalizer", "pre_tokenizer", "post_processor")
OF_MODEL = (
    "type", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
    "byte_fallback", "ignore_merges", "max_input_chars_per_word", "unk_id",
)  # fmt: skip
OF_ADDED = ("content", "single_word", "lstrip", "rstrip", "normalized")
# Settings of tokenizer_config.json that the library applies over tokenizer.json.
SWITCHES = (
    "do_lower_case", "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize",
    "add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens", "never_split",
    "remove_space", "keep_accents", "spaces_between_special_tokens",
)  # fmt: skip
# What a switch is where only tokenizer.json says it: the key of its normalizer.
IN_NORMALIZER = {
    "do_lower_case": "lowercase", "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}  # fmt: skip
ROLES = (
    "unk_token", "pad_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token",
)  # fmt: skip
# Two tokenizers that cut these alike are one: case, accents, spaces, digits, marks, scripts, and
# what cleaning takes out.
PROBES = (
    "", " ", "Hello World", "hello world", " leading and trailing ", "two  spaces\tand\na line",
    "It's don't WE'LL they've", "Crème Brûlée naïve ÀÉÎ", "e\u0301 cafe\u0301",
    "\ufb01ne \uff21\uff22 \uff11\uff12 \xb2", "12345 3.14159 1,000,000 2026-11-24",
    "a-b_c/d\\e@f#g$h%i^j&k*l", "(x) [y] {z} <w> \"q\" 'r'", "東京都 中文字符 한국어",
    "Привет мир", "مرحبا بالعالم", "नमस्ते", "😀👍🏽", "Straße ẞ İstanbul",
    "zero\u200bwidth \ufeff \xa0 nbsp", "tab\x00null \x07bell", "https://example.org/a?b=c",
    "...!!!??", "[CLS] [SEP] [MASK] [UNK] <s> </s> <pad> <|endoftext|>", "▁ under", "Ġspace",
    "##piece", "supercalifragilisticexpialidocious" * 4,
)  # fmt: skip
# Probes of a vocabulary, and of its added tokens.
MOST = 512


def describe_cutting(
    tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> dict[str, str]:
    """What decides how texts are cut, by its name, as JSON; what the files do not say is absent.

    Args:
        tokenizer: the parsed tokenizer.json; None where there is none.
        settings: the parsed tokenizer_config.json; {} where there is none.
    """
    found: dict[str, object] = {}
    if tokenizer is not None:
        found |= {part: tokenizer.get(part) for part in PARTS}
        model = tokenizer["model"]
        found["model"] = {key: model[key] for key in OF_MODEL if model.get(key) is not None}
        added = tokenizer.get("added_tokens") or ()
        found["added_tokens"] = sorted([str(entry.get(key)) for key in OF_ADDED] for entry in added)
    found |= {key: settings[key] for key in SWITCHES if settings.get(key) is not None}
    normalizer = found.get("normalizer")
    if isinstance(normalizer, Mapping) and normalizer.get("type") == "BertNormalizer":
        for key, inner in IN_NORMALIZER.items():
            if key not in found and normalizer.get(inner) is not None:
                found[key] = normalizer[inner]
    return {
        key: json.dumps(value, sort_keys=True, ensure_ascii=False) for key, value in found.items()
    }


def find_special_tokens(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Content of the special tokens that tokenizer_config.json or special_tokens_map.json name."""
    found = []
    for role in ROLES:
        entry = settings.get(role)
        content = entry.get("content") if isinstance(entry, Mapping) else entry
        if isinstance(content, str):
            found.append(content)
    return tuple(dict.fromkeys(found))


def unify_cutting(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Checkpoints of which those that cut alike are described alike.

    Versions of the libraries write one tokenizer in several ways. Where descriptions differ, the
    tokenizers are loaded, one a description, and asked to cut texts; nothing is loaded else.
    """
    by_digest: dict[str, list[Checkpoint]] = {}
    unified = []
    for checkpoint in checkpoints:
        others = by_digest.setdefault(checkpoint.tokenizer_digest, [])
        own = _pipeline(checkpoint)
        same = next((c for c in others if _pipeline(c) == own), None)
        if same is None and own and others:
            same = next((c for c in others if _cut_alike(c, checkpoint)), None)
        if same is None:
            others.append(checkpoint)
        elif _pipeline(same) != own:
            parts = dict(_pipeline(same))
            checkpoint = replace(checkpoint, cutting={**checkpoint.cutting, **parts})
        unified.append(checkpoint)
    return tuple(unified)


def _pipeline(checkpoint: Checkpoint) -> dict[str, str]:
    """What tokenizer.json alone says; {} where there is none."""
    if "model" not in checkpoint.cutting:
        return {}
    return {key: checkpoint.cutting[key] for key in (*PARTS, "model", "added_tokens")}


def _cut_alike(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two tokenizers with the same vocabulary make the same of all probes."""
    ours, theirs = _load(one), _load(other)
    if ours is None or theirs is None:
        return False
    words = sorted(ours.get_vocab())
    added = sorted({*_added(one), *_added(other)})
    probes = [*PROBES, " ".join(words[:: max(1, len(words) // MOST)][:MOST])]
    probes += [f"a{token}b {token} c" for token in added[:MOST]]
    return all(_cut(ours, text) == _cut(theirs, text) for text in probes)


def _load(checkpoint: Checkpoint) -> Any:
    """The tokenizer of tokenizer.json; None where the library cannot read it."""
    from tokenizers import Tokenizer

    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    file = next(file for file in source.side_files if file.name == TOKENIZER)
    content = open_store(source.uri).read(
        file.name, if_match=file.pin.etag, version=file.pin.version
    )
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception:  # noqa: BLE001  # the library raises nothing narrower
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _cut(tokenizer: Any, text: str) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of a text, and of it as the first of two."""
    both = (tokenizer.encode(text), tokenizer.encode(text, "a second one"))
    return [(encoded.ids, encoded.type_ids) for encoded in both]


def _added(checkpoint: Checkpoint) -> list[str]:
    return [str(entry[0]) for entry in json.loads(checkpoint.cutting["added_tokens"])]
