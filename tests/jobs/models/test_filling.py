"""Every family against `from_pretrained` of the library itself, bit by bit."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from fusion.checkpoints.checkpoint import TensorSpec, model_tensors
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import ModelError
from jobs.models.adapted_tensors import load_tensors
from jobs.models.filling import fill_skeleton, make_skeleton
from jobs.models.unfilled import CPU, choose_device

SIZES = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 2,
         "intermediate_size": 37}  # fmt: skip
WORDS = {"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, **WORDS}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 2, "num_heads": 2,
      "decoder_start_token_id": 0, **WORDS}  # fmt: skip
LLAMA = {**SIZES, **WORDS, "num_key_value_heads": 1, "max_position_embeddings": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37, "vocab_size": 99,
              "max_position_embeddings": 64}  # fmt: skip
ENCODER = {**SIZES, **WORDS, "max_position_embeddings": 64}
WAV2VEC2 = {**SIZES, "conv_dim": (32, 32), "conv_stride": (4, 4), "conv_kernel": (8, 4),
            "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2, "vocab_size": 32, "pad_token_id": 0}  # fmt: skip
FAMILIES = {
    "BertForSequenceClassification": ENCODER,
    "RobertaForSequenceClassification": ENCODER,
    "GPT2ForSequenceClassification": GPT2,
    "GPT2LMHeadModel": GPT2,
    "BertForMaskedLM": ENCODER,
    "DistilBertForSequenceClassification": DISTILBERT,
    "MPNetForSequenceClassification": ENCODER,
    "ElectraForSequenceClassification": {**ENCODER, "embedding_size": 16},
    "ViTForImageClassification": {**SIZES, "image_size": 32, "patch_size": 16},
    "Wav2Vec2ForSequenceClassification": WAV2VEC2,
    "T5ForConditionalGeneration": T5,
    "LlamaForCausalLM": LLAMA,
    "Qwen2ForTokenClassification": LLAMA,
}
TOKENS = torch.tensor([[1, 7, 98, 5, 2], [1, 4, 4, 8, 2]])
LIKE = {"ViTForImageClassification": ("pixel_values", (2, 3, 32, 32)),
        "Wav2Vec2ForSequenceClassification": ("input_values", (2, 800))}  # fmt: skip


def write(folder, name, *, dtype=torch.float32):
    kind = getattr(transformers, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = kind(kind.config_class(**FAMILIES[name]))
        for parameter in model.parameters():  # norms and biases start as constants
            torch.nn.init.normal_(parameter, std=0.2)
    model.to(dtype).save_pretrained(folder)
    return kind


def fill(kind, folder):
    checkpoint = pin_checkpoint(str(folder), name="m")[0]
    skeleton = make_skeleton(kind, folder, model_tensors(checkpoint))
    assert skeleton.problems == {}
    return fill_skeleton(skeleton, load_tensors(checkpoint, CPU).tensors, CPU)


def logits(model):
    name = type(model).__name__
    with torch.inference_mode():
        if name in LIKE:
            word, shape = LIKE[name]
            values = torch.rand(shape, generator=torch.Generator().manual_seed(1))
            return model(**{word: values}).logits
        if name == "T5ForConditionalGeneration":
            return model(input_ids=TOKENS, decoder_input_ids=TOKENS).logits
        return model(input_ids=TOKENS).logits


def check_equal(kind, folder):
    ours = fill(kind, folder)
    theirs = kind.from_pretrained(folder, dtype=torch.float32).eval()
    expected, found = theirs.state_dict(), ours.state_dict()
    assert expected.keys() == found.keys()
    assert [n for n in expected if not torch.equal(expected[n], found[n])] == []
    hidden = dict(theirs.named_buffers())
    assert [n for n, b in ours.named_buffers() if not torch.equal(b, hidden[n])] == []
    assert not any(tensor.is_meta for tensor in (*ours.parameters(), *ours.buffers()))
    assert not any(module.training for module in ours.modules())
    assert torch.equal(logits(ours), logits(theirs))


def rewrite(folder, rename):
    tensors = load_file(folder / "model.safetensors")
    renamed = {rename(name): tensor for name, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_the_bits_of_its_library(tmp_path, name):
    check_equal(write(tmp_path, name), tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["BertForSequenceClassification", "GPT2LMHeadModel"])
def test_other_dtypes_become_float32_as_in_the_library(tmp_path, name, dtype):
    check_equal(write(tmp_path, name, dtype=dtype), tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("BertForMaskedLM", "LayerNorm.weight", "LayerNorm.gamma"),
        ("BertForMaskedLM", "LayerNorm.bias", "LayerNorm.beta"),
        ("GPT2LMHeadModel", "transformer.", ""),
        ("ViTForImageClassification", "vit.", ""),
        ("LlamaForCausalLM", "model.", ""),
        ("T5ForConditionalGeneration", "shared.", "encoder.embed_tokens."),
    ],
)
def test_names_of_older_exports_are_understood(tmp_path, name, old, new):
    kind = write(tmp_path, name)
    rewrite(tmp_path, lambda found: found.replace(old, new))
    check_equal(kind, tmp_path)


def test_ties_hold_after_filling(tmp_path):
    model = fill(write(tmp_path, "GPT2LMHeadModel"), tmp_path)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_shards_are_read_as_one(tmp_path):
    kind = write(tmp_path, "BertForSequenceClassification")
    kind.from_pretrained(tmp_path).save_pretrained(tmp_path / "many", max_shard_size="40KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    check_equal(kind, tmp_path / "many")


def test_float32_becomes_the_models_own_without_a_copy(tmp_path):
    kind = write(tmp_path, "BertForSequenceClassification")
    checkpoint = pin_checkpoint(str(tmp_path), name="m")[0]
    skeleton = make_skeleton(kind, tmp_path, checkpoint.tensors)
    tensors = load_tensors(checkpoint, CPU).tensors
    model = fill_skeleton(skeleton, tensors, CPU)
    places = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == places


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda tensors: tensors.pop("classifier.bias"), "missing_keys", "classifier.bias"),
        (
            lambda tensors: tensors.update({"more": torch.zeros(1)}),
            "unexpected_keys",
            "more",
        ),
        (
            lambda tensors: tensors.update({"classifier.bias": torch.zeros(7)}),
            "mismatched_keys",
            "('classifier.bias', torch.Size([7]), torch.Size([2]))",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_what_does_not_fit_is_known_before_a_tensor_is_read(tmp_path, change, kind, said):
    library = write(tmp_path, "BertForSequenceClassification")
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    specs = model_tensors(pin_checkpoint(str(tmp_path), name="m")[0])
    (tmp_path / "model.safetensors").unlink()
    assert make_skeleton(library, tmp_path, specs).problems == {kind: [said]}


def test_numbers_that_no_model_computes_with_are_refused_by_name(tmp_path):
    kind = write(tmp_path, "BertForSequenceClassification")
    spec = TensorSpec("phase", "C64", (2,), "model.safetensors", 0, 16)
    with pytest.raises(ModelError, match="phase is C64; models are evaluated from BOOL"):
        make_skeleton(kind, tmp_path, [spec])


@pytest.mark.parametrize(
    ("assigned", "has_gpu", "device"),
    [
        (None, True, "cpu"),
        ("", True, "cpu"),
        ("-1", True, "cpu"),
        ("0", False, "cpu"),
        ("3", True, "cuda:0"),
        ("GPU-5a1b", True, "cuda:0"),
    ],
)
def test_only_a_gpu_that_was_assigned_is_used(monkeypatch, assigned, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if assigned is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    assert str(choose_device()) == device
