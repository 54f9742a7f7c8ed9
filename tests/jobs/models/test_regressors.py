"""Models with one output: numbers for one text or two, alone and pooled."""

import pytest
import torch
import transformers

from jobs.candidates.pin import pin_checkpoint
from jobs.consume.predict import predict
from jobs.errors import ModelError
from jobs.models.batches import find_outputs
from jobs.models.families import load_model
from tests.support.tiny_models import TEXTS, write_classifier


def pin(folder):
    return pin_checkpoint(str(folder), name=folder.name)[0]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_each_family_says_the_number_that_its_library_says(tmp_path, kind):
    folder = write_classifier(tmp_path / kind, kind, labels=("LABEL_0",))
    loaded = load_model(pin(folder), "value").model
    inputs = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    found = [find_outputs(loaded, inputs, batch_size=size) for size in (1, 3)]
    assert found[0].shape == (4, 1)
    assert torch.allclose(*found, rtol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for entry, number in zip(inputs, found[0], strict=True):
        tokens = tokenizer(entry["text"], entry["text_pair"], return_tensors="pt")
        with torch.inference_mode():
            assert torch.allclose(model(**tokens).logits[0], number, atol=1e-5)
    with pytest.raises(ModelError, match="says a number"):
        load_model(pin(folder))


def test_numbers_of_an_ensemble_are_averaged(tmp_path):
    folders = [
        write_classifier(tmp_path / str(seed), "bert", seed=seed, labels=("LABEL_0",))
        for seed in (1, 2)
    ]
    pair = "the film was great\tlovely food"
    one, other, both = (
        predict([pin(f) for f in chosen], [1 / len(chosen)] * len(chosen), [pair, "an awful book"])
        for chosen in (folders[:1], folders[1:], folders)
    )
    for alone, second, pooled in zip(one, other, both, strict=True):
        assert (pooled.kind, pooled.probability) == ("number", None)
        mean = (float(alone.answer) + float(second.answer)) / 2
        assert float(pooled.answer) == pytest.approx(mean, abs=1e-4)


def test_a_pair_has_the_same_number_beside_a_single_text_as_alone(tmp_path):
    loaded = load_model(pin(write_classifier(tmp_path / "m", "bert", labels=("LABEL_0",))), "value")
    pair = {"text": "the film was great and fine", "text_pair": "an awful dull book"}
    short, long = {"text": "lovely"}, {"text": "it broke after a day " * 4}
    alone = find_outputs(loaded.model, [pair], batch_size=1)[0]
    for inputs in ([pair, short], [short, pair], [pair, long], [long, pair]):
        found = find_outputs(loaded.model, inputs, batch_size=2)[inputs.index(pair)]
        assert torch.allclose(found, alone, rtol=1e-5, atol=1e-6)
