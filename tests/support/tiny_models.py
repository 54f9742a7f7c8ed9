"""Tiny Hugging Face classifiers with real tokenizers, made from configs, nothing downloaded."""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXTS = ("the film was great and fine", "an awful dull book", "it broke after a day", "lovely food")
SIZE = 16


def make_tokenizer(kind: str):
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # not a password
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
        tokenizer.train_from_iterator(TEXTS, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]",
        )  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"] if kind == "roberta" else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if kind == "roberta":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
            pad_token="<pad>",
        )  # fmt: skip
    end = "<|endoftext|>"
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end
    )


def make_config(kind: str, vocabulary: int, labels):
    common = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    if kind == "gpt2":
        return transformers.GPT2Config(
            vocab_size=vocabulary, n_embd=SIZE, n_layer=1, n_head=2, n_positions=64,
            pad_token_id=0, bos_token_id=0, eos_token_id=0, **common,
        )  # fmt: skip
    config = transformers.BertConfig if kind == "bert" else transformers.RobertaConfig
    return config(
        vocab_size=vocabulary, hidden_size=SIZE, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=SIZE, max_position_embeddings=64,
        pad_token_id=0 if kind == "bert" else 1, **common,
    )  # fmt: skip


def write_classifier(
    folder: Path, kind: str, *, seed: int = 0, labels=("negative", "positive"), head=True
) -> Path:
    """A random classifier; without `head` the bare encoder."""
    classes = {
        "bert": (transformers.BertForSequenceClassification, transformers.BertModel),
        "roberta": (transformers.RobertaForSequenceClassification, transformers.RobertaModel),
        "gpt2": (transformers.GPT2ForSequenceClassification, transformers.GPT2LMHeadModel),
    }
    tokenizer = make_tokenizer(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = classes[kind][0 if head else 1](make_config(kind, len(tokenizer), labels))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
