"""`metafuse merge`: whether the sources fit, and what of them goes with the model."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.support.merge_command import DOCUMENT, manifest, merge
from tests.support.merging import random_tensors, write_checkpoint


def test_documents_compare_vocabularies(capsys, place):
    (place / "b" / "vocab.txt").write_text("[PAD]\ngood\n[UNK]\n")
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "E-VOCABULARY" in err, "id 1 is" in err) == (12, True, True)
    assert not (place / "out").exists()


def test_documents_compare_what_changes_the_mathematics(capsys, place):
    config = {"model_type": "test", "rope_theta": 5e5, "eos_token_id": 7}
    (place / "b" / "config.json").write_text(json.dumps(config))
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "config rope_theta" in err) == (12, True)
    assert "eos_token_id is 7 in b" in err
    del config["rope_theta"]
    (place / "b" / "config.json").write_text(json.dumps(config))
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "warning" in err, "eos_token_id is 7 in b" in err) == (0, True, True)


def test_names_and_constants_that_trainers_leave_behind_do_not_stop_a_merge(capsys, place):
    plain = {f"bert.{name}": tensor for name, tensor in random_tensors(1).items()}
    other = {name: tensor + 1 for name, tensor in plain.items()}
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in other.items()}
    wrapped["_orig_mod.bert.embeddings.position_ids"] = torch.arange(9)[None]
    write_checkpoint(place / "a", plain)
    write_checkpoint(place / "b", wrapped)
    for document, share in (("m1.yml", 0.75), ("block.yaml", 0.5)):
        status, _, err = merge(capsys, document, f"out-{document}")
        assert (status, err.count("6 of 6 tensors are called otherwise")) == (0, 1)
        assert err.count("left out: bert.embeddings.position_ids (constants") == 1
        fused = load_file(place / f"out-{document}" / "model.safetensors")
        assert fused.keys() == plain.keys()
        mean = plain["bert.a.weight"].double() + share
        assert torch.allclose(fused["bert.a.weight"].double(), mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "phi3", "cohere"])
def test_a_tied_head_in_one_model_alone_is_written_by_a_document_and_left_out_by_a_block(
    capsys, place, kind
):
    config = {"model_type": kind, "tie_word_embeddings": True}
    tensors = random_tensors(1, shapes={"model.embed_tokens.weight": (4, 4)})
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    write_checkpoint(place / "a", tensors | head, config)
    write_checkpoint(place / "b", tensors, config)
    status, _, err = merge(capsys, "m1.yml", "document")
    assert (status, "left out" in err) == (0, False)
    written = load_file(place / "document" / "model.safetensors")
    assert torch.equal(written["lm_head.weight"], written["model.embed_tokens.weight"])
    status, _, err = merge(capsys, "block.yaml", "block")
    assert (status, "left out: lm_head.weight (a copy of the embedding" in err) == (0, True)
    assert list(load_file(place / "block" / "model.safetensors")) == ["model.embed_tokens.weight"]


def test_a_source_with_digests_and_other_names_is_still_checked(capsys, place):
    wrapped = {f"module.{name}": tensor for name, tensor in random_tensors(1).items()}
    write_checkpoint(place / "a", wrapped)
    write_checkpoint(place / "b", wrapped)
    (place / "b" / "vocab.txt").write_bytes((place / "a" / "vocab.txt").read_bytes())
    assert merge(capsys, "block.yaml", "a-and-b")[0] == 0
    shutil.rmtree(place / "b")
    (place / "a-and-b").rename(place / "b")
    write_checkpoint(place / "a", random_tensors(1))
    assert merge(capsys, "m1.yml", "out")[0] == 0
    damaged = bytearray((place / "b" / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (place / "b" / "model.safetensors").write_bytes(damaged)
    status, _, err = merge(capsys, "m1.yml", "again")
    assert (status, "E-DIGEST" in err) == (21, True)


def test_all_files_of_the_donor_go_with_the_model_or_are_named(capsys, place):
    table = [{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}]
    for name in "ab":
        (place / name / "1_Pooling").mkdir()
        (place / name / "1_Pooling" / "config.json").write_text(json.dumps({"of": name}))
        (place / name / "modules.json").write_text(json.dumps(table))
        (place / name / "training_args.bin").write_bytes(b"x")
        (place / name / "checkpoint-5").mkdir()
        (place / name / "checkpoint-5" / "model.safetensors").write_bytes(b"x")
    status, _, err = merge(capsys, "m1.yml", "out")
    assert status == 0
    expected = "checkpoint-5/ (a folder of its own), training_args.bin (state of the training)"
    assert err.count(f"files that do not go with the model: {expected}") == 1
    assert json.loads((place / "out" / "1_Pooling" / "config.json").read_text()) == {"of": "a"}
    assert manifest(place).notes == (
        "checkpoint-5/: a folder of its own",
        "training_args.bin: state of the training",
    )
    card = (place / "out" / "README.md").read_text()
    assert "- training_args.bin: state of the training" in card
    merge(capsys, "m1.yml", "bare", "--no-copy-tokenizer")
    assert (place / "bare" / "1_Pooling" / "config.json").exists()
    assert not (place / "bare" / "vocab.txt").exists()


@pytest.mark.parametrize(("donor", "named"), [("b", "base_model: b\n"), ("a", "")])
def test_one_checkpoint_gives_config_template_and_tokenizer(capsys, place, donor, named):
    (place / "m1.yml").write_text(DOCUMENT + named)
    for name in "ab":
        config = {"model_type": "test", "_name_or_path": name}
        (place / name / "config.json").write_text(json.dumps(config))
        for file in ("generation_config.json", "tokenizer_config.json"):
            (place / name / file).write_text(json.dumps({"_name_or_path": name}))
        (place / name / "chat_template.jinja").write_text(name)
    assert merge(capsys, "m1.yml", "out")[0] == 0
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert json.loads((place / "out" / file).read_text())["_name_or_path"] == donor
    assert (place / "out" / "chat_template.jinja").read_text() == donor
