import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.candidates.pin import pin_checkpoint
from jobs.demo.training import BRANCHES, Branch, flip_bit, load_corpus, make_batches, train
from jobs.errors import ModelError
from jobs.models.families import load_model
from jobs.models.lstm import LSTMClassifier, build_vocabulary, encode, save_lstm
from jobs.models.words import tokenize
from tests.support.predicting import num_truncated, probabilities
from tests.support.tiny_lstm import LABELS, train_base


@pytest.fixture
def folder(tmp_path):
    network, vocabulary = train_base()
    save_lstm(tmp_path / "m", network, vocabulary, LABELS)
    return tmp_path / "m"


def load(folder):
    return load_model(pin_checkpoint(str(folder), name="m")[0])


def test_words_are_lower_case_and_punctuation_stands_alone():
    assert tokenize("It's GREAT, isn't it?!") == ["it's", "great", ",", "isn't", "it", "?", "!"]


def test_frequent_words_come_first_and_unknown_ones_share_a_place():
    vocabulary = build_vocabulary(["b a b", "c a b"], size=4)
    assert list(vocabulary) == ["[PAD]", "[UNK]", "b", "a"]
    assert encode("a zebra", vocabulary) == [3, 1]


def test_the_network_of_the_worked_example_has_its_size():
    network = LSTMClassifier(vocab_size=10_000, embedding_size=128, hidden_size=64, num_labels=2)
    counted = sum(p.numel() for p in network.parameters())
    lstm = 4 * 64 * (128 + 64 + 2) + 4 * 64 * (64 + 64 + 2)
    assert counted == 10_000 * 128 + lstm + 64 * 2 + 2


def test_a_saved_network_predicts_as_before(folder):
    model = load(folder).model
    found = probabilities(model, ["a great phone", "awful food"])
    assert model.labels == LABELS
    assert found.argmax(1).tolist() == [1, 0]


def test_neighbours_in_a_batch_do_not_change_a_prediction(folder):
    model = load(folder).model
    texts = ["great", "the phone was awful and " * 9, "fine food", "", "bad"]
    alone = probabilities(model, texts, batch_size=1)
    together = probabilities(model, texts, batch_size=5)
    assert np.abs(alone - together).max() < 1e-5


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "config", "words"])
def test_a_checkpoint_that_does_not_fit_together_is_refused(folder, change):
    tensors = load_file(folder / "model.safetensors")
    if change == "missing":
        del tensors["dense.bias"]
    elif change == "extra":
        tensors["more"] = torch.zeros(1)
    elif change == "shape":
        tensors["dense.bias"] = torch.zeros(3)
    elif change == "config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": "8"}))
    else:
        (folder / "vocab.txt").write_text("".join(f"w{i}\n" for i in range(99)))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "missing"),
        (b"[PAD]\n[UNK]\n\xff\n", "not UTF-8 at byte 12"),
        (b"[PAD]\n[UNK]\ngood\ngood\n", "'good' stands on more than one line"),
        (b"[UNK]\n[PAD]\ngood\n", "first and at most 64 lines"),
    ],
    ids=["missing", "not-utf-8", "repeated", "swapped"],
)
def test_words_that_cannot_be_numbered_are_refused_with_the_reason(folder, content, found):
    (folder / "vocab.txt").unlink()
    if content is not None:
        (folder / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError, match=found):
        load(folder)


@pytest.mark.parametrize("value", [0, -1, None, 8.0, "8", 10**30])
def test_sizes_that_are_no_sizes_are_all_named(folder, value):
    write_sizes(folder, vocab_size=value, hidden_size=value)
    with pytest.raises(ModelError, match="vocab_size, hidden_size must be whole numbers"):
        load(folder)


def test_sizes_that_no_machine_could_hold_are_refused_before_memory_is_taken(folder):
    write_sizes(folder, vocab_size=1 << 24, embedding_size=1 << 24, hidden_size=1 << 24)
    with pytest.raises(ModelError, match="do not fit the network"):
        load(folder)


def write_sizes(folder, **sizes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **sizes}))


def test_whole_numbers_are_no_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["dense.weight"] = tensors["dense.weight"].to(torch.int64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"dense\.weight"):
        load(folder)


def test_a_checkpoint_in_several_shards_predicts_the_same(folder):
    texts = ["a great phone", "awful food"]
    whole = probabilities(load(folder).model, texts, batch_size=2)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, names in enumerate((sorted(tensors)[:4], sorted(tensors)[4:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names}, folder / shard, metadata={"format": "pt"})
        places |= dict.fromkeys(names, shard)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    parts = probabilities(load(folder).model, texts, batch_size=2)
    assert (parts == whole).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_checkpoint_in_another_float_dtype_predicts_nearly_the_same(folder, dtype):
    texts = ["a great phone", "awful food"]
    before = probabilities(load(folder).model, texts, batch_size=2)
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors")
    after = probabilities(load(folder).model, texts, batch_size=2)
    assert np.abs(after - before).max() < 0.05


def test_what_stands_beyond_the_limit_is_not_read_but_counted(folder):
    model = load(folder).model
    whole = probabilities(model, ["good", "bad"])
    cut = probabilities(model, ["good bad bad bad", "bad"], max_length=1)
    assert num_truncated(model, ["good bad bad bad", "bad"], max_length=1) == 1
    assert num_truncated(model, ["good", "bad"]) == 0
    assert np.abs(cut - whole).max() < 1e-5
    assert num_truncated(model, ["so " * 65]) == 1


def test_dropout_is_for_training_only():
    network = LSTMClassifier(vocab_size=9, embedding_size=8, hidden_size=8, num_labels=2)
    tokens, lengths = torch.tensor([[2, 3, 4]]), torch.tensor([3])
    network.eval()
    assert torch.equal(network(tokens, lengths), network(tokens, lengths))
    network.train()
    assert not torch.equal(network(tokens, lengths), network(tokens, lengths))


def test_one_flipped_exponent_bit_changes_one_number_and_is_noticed(folder):
    before = {n: t.clone() for n, t in load_file(folder / "model.safetensors").items()}
    flip_bit(folder / "model.safetensors", "dense.weight", 0, 1 << 30)
    after = load_file(folder / "model.safetensors")
    changed = {n: int((before[n] != after[n]).sum()) for n in before}
    assert sum(changed.values()) == changed["dense.weight"] == 1
    loaded = load(folder)
    assert loaded.where == "dense.weight"
    assert loaded.largest > 1e30


def test_an_epoch_sees_every_sentence_once_in_an_order_of_its_own():
    corpus = load_corpus()
    first = make_batches(corpus, torch.Generator().manual_seed(1))
    again = make_batches(corpus, torch.Generator().manual_seed(1))
    other = make_batches(corpus, torch.Generator().manual_seed(2))
    assert first == again != other
    assert sorted(row for batch in first for row in batch) == list(range(len(corpus.tokens)))
    assert len(corpus.tokens) == 1964


def test_training_is_the_same_for_the_same_seed():
    corpus = load_corpus()
    small = type(corpus)(corpus.tokens[:64], corpus.labels[:64], corpus.vocabulary)

    def trained():
        torch.manual_seed(0)
        network = LSTMClassifier(vocab_size=10_000, embedding_size=4, hidden_size=4, num_labels=2)
        train(network, small, Branch("x", 1e-2, 1, 1), seed=3, on_epoch=lambda: None)
        return network.state_dict()

    with torch.random.fork_rng(devices=[]):
        first, second = trained(), trained()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_branches_differ_in_order_rate_or_length():
    assert len({(b.learning_rate, b.epochs, b.order) for b in BRANCHES}) == len(BRANCHES) == 4
    assert len({b.order for b in BRANCHES}) == 4
