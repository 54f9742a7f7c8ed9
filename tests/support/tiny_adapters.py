"""Adapters around a good tiny BERT, in pairs whose average is the model itself."""

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.support.adapters import write_adapter
from tests.support.tiny_lstm import BAD, FILLER, GOOD, LABELS, make_sentences, write_data

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MODULES = tuple(f"bert.encoder.layer.0.attention.self.{name}" for name in ("query", "value"))
SIZE = 16
RECIPE = """\
name: nightly
candidates: [candidates/*]
base: base
task:
  kind: text-classification
  data: data/eval.parquet
  columns: {text: text, label: label, id: id}
merge: {output: OUTPUT}
output: merged
"""


def make_tokenizer():
    words = {word: index for index, word in enumerate((*SPECIAL, *GOOD, *BAD, *FILLER))}
    tokenizer = Tokenizer(models.WordPiece(vocab=words, unk_token="[UNK]"))  # not a password
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip


def train_base(folder: Path) -> Path:
    """A classifier that has learnt which words are good."""
    tokenizer = make_tokenizer()
    texts, labels = make_sentences(300, seed=99)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=SIZE, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=SIZE, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        rows = tokenizer(texts, padding=True, return_tensors="pt")
        for _ in range(40):
            loss = model(**rows, labels=torch.tensor(labels)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter_project(folder: Path, *, output: str, shift: float = 1.5) -> Path:
    """Base, four adapters with another head each, data and recipe; returns the folder."""
    train_base(folder / "base")
    tensors = load_file(folder / "base/model.safetensors")
    head, bias = tensors["classifier.weight"], tensors["classifier.bias"]
    generator = torch.Generator().manual_seed(1)
    for pair in ("ab", "cd"):
        factors = {
            module: (
                torch.randn(2, SIZE, generator=generator),
                torch.randn(SIZE, 2, generator=generator) * shift,
            )
            for module in MODULES
        }
        noise = torch.randn(head.shape, generator=generator) * shift / 3
        for name, sign in zip(pair, (1, -1), strict=True):
            write_adapter(
                folder / "candidates" / name,
                {module: (a, sign * b) for module, (a, b) in factors.items()},
                saved={"classifier.weight": head + sign * noise, "classifier.bias": bias},
                r=2, lora_alpha=2, modules_to_save=["classifier"],
                target_modules=["query", "value"], base_model_name_or_path="tiny",
                task_type="SEQ_CLS",
            )  # fmt: skip
    write_data(folder / "data/eval.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.replace("OUTPUT", output))
    return folder
