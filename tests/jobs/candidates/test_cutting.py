"""Tokenizers with one vocabulary that make other tokens of a text are two tokenizers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

from fusion.checkpoints.agreement import find_mismatches
from tests.support.checkpoints import find, whole_checkpoint, write_files
from tests.support.tiny_models import make_tokenizer

# Trained once: which of two equally frequent pieces comes first is left to chance.
PLAIN = make_tokenizer("bert").backend_tokenizer.to_str()


def spelled(**parts):
    """tokenizer.json of one small vocabulary, with other parts."""
    tokenizer = Tokenizer.from_str(PLAIN)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return {"tokenizer.json": tokenizer.to_str().encode()}


def settings(**values):
    return {"tokenizer_config.json": json.dumps(values).encode()}


def differences(tmp_path: Path, *tokenizers):
    """Codes and texts of what differs between checkpoints with these tokenizer files."""
    plain = {k: v for k, v in whole_checkpoint().items() if k != "vocab.txt"}
    for number, files in enumerate(tokenizers):
        write_files(tmp_path / f"c{number}", plain | files)
    found = find(tmp_path / "c*")
    return [
        (m.checkpoint, m.code, m.text)
        for m in find_mismatches(found.candidates, cast=False, vocabularies=found.vocabularies)
    ]


OTHERS = {
    "case": {"normalizer": normalizers.BertNormalizer(lowercase=False)},
    "accents": {"normalizer": normalizers.BertNormalizer(lowercase=True, strip_accents=False)},
    "no normalizer": {"normalizer": normalizers.Lowercase()},
    "spaces": {"pre_tokenizer": pre_tokenizers.WhitespaceSplit()},
    "nothing around": {"post_processor": processors.ByteLevel()},
    "other around": {
        "post_processor": processors.TemplateProcessing(
            single="[CLS] $A", pair="[CLS] $A [SEP] $B:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    },
    "segments": {
        "post_processor": processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("parts", OTHERS.values(), ids=OTHERS)
def test_a_tokenizer_that_cuts_differently_is_refused(tmp_path, parts):
    found = differences(tmp_path, spelled(), spelled(), spelled(**parts))
    assert {entry[:2] for entry in found} == {("c2", "E-VOCABULARY")}
    assert f"cuts texts differently: {next(iter(parts))} is " in found[-1][2]


ALIKE = {
    "Bert's own": {"post_processor": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))},
    "a list of one": {
        "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer()]),
        "normalizer": normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)]),
    },
    "written out": {
        "normalizer": normalizers.BertNormalizer(
            lowercase=True, strip_accents=True, clean_text=True, handle_chinese_chars=True
        )
    },
}


@pytest.mark.parametrize("parts", ALIKE.values(), ids=ALIKE)
def test_two_spellings_of_one_tokenizer_agree(tmp_path, parts):
    assert differences(tmp_path, spelled(), spelled(**parts), spelled()) == []


def test_padding_and_truncation_of_the_last_use_do_not_count(tmp_path):
    used = Tokenizer.from_buffer(spelled()["tokenizer.json"])
    used.enable_padding(length=8)
    used.enable_truncation(4)
    assert differences(tmp_path, spelled(), {"tokenizer.json": used.to_str().encode()}) == []


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_what_the_installed_transformers_saves_anew_agrees(tmp_path, kind):
    import transformers

    make_tokenizer(kind).save_pretrained(tmp_path / "one")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "one")
    again.save_pretrained(tmp_path / "two")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    ]
    assert differences(tmp_path, *files) == []


VOCABULARY = {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\ngood\n"}


def test_switches_in_the_settings_count_with_any_vocabulary_file(tmp_path):
    (found,) = differences(
        tmp_path,
        VOCABULARY | settings(do_lower_case=True),
        VOCABULARY | settings(do_lower_case=False),
    )
    assert found[:2] == ("c1", "E-VOCABULARY")
    assert "do_lower_case is false, true elsewhere" in found[2]


def test_a_switch_is_compared_with_what_tokenizer_json_says(tmp_path):
    tokens = Tokenizer.from_str(PLAIN).get_vocab()
    lines = "".join(f"{token}\n" for token in sorted(tokens, key=tokens.__getitem__)).encode()
    for value, expected in ((True, 0), (False, 1)):
        slow = {"vocab.txt": lines} | settings(do_lower_case=value)
        assert len(differences(tmp_path / str(value), spelled(), slow)) == expected


def test_settings_that_do_not_cut_may_differ(tmp_path):
    ours = settings(model_max_length=512, pad_token="[PAD]", tokenizer_class="BertTokenizerFast")
    theirs = settings(model_max_length=128, tokenizer_class="BertTokenizer", backend="tokenizers")
    assert differences(tmp_path, VOCABULARY | ours, VOCABULARY | theirs, VOCABULARY) == []


def test_equal_tokenizers_are_compared_without_the_library(tmp_path):
    for number in range(2):
        write_files(tmp_path / f"c{number}", whole_checkpoint() | spelled())
    script = (
        "import sys\nfrom jobs.candidates.find import find_candidates\n"
        f"find_candidates([{str(tmp_path / 'c*')!r}], settle_seconds=0, now=1.0)\n"
        "assert not {'tokenizers', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_tokenizer_that_the_library_cannot_read_differs_and_is_no_accident(tmp_path):
    table = json.loads(spelled()["tokenizer.json"])
    odd = {"tokenizer.json": json.dumps({**table, "normalizer": {"type": "Unheard"}}).encode()}
    (found,) = differences(tmp_path, spelled(), odd)
    assert "normalizer" in found[2]
