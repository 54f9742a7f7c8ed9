import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.errors import NonFiniteError
from jobs.candidates.pin import pin_checkpoint
from jobs.consume.predict import predict
from jobs.errors import ModelError, SourceChangedError
from jobs.models.families import load_model
from tests.support.merging import merge
from tests.support.predicting import num_truncated, probabilities
from tests.support.tiny_models import edit_config, write_classifier

KINDS = ("bert", "roberta", "gpt2")
TEXTS = ["the film was great", "awful", "it broke after a day and then it broke again", "fine food"]


def pin(folder, name="m"):
    return pin_checkpoint(str(folder), name=name)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_family_predicts_as_its_library_does(tmp_path, kind):
    import transformers

    write_classifier(tmp_path, kind)
    found = probabilities(load_model(pin(tmp_path)).model, TEXTS, batch_size=3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for text, row in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            expected = model(ids).logits.double().softmax(-1)[0]
        assert np.allclose(row, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_threads_do_not_change_predictions(tmp_path, kind):
    write_classifier(tmp_path, kind)
    model = load_model(pin(tmp_path)).model
    alone = probabilities(model, TEXTS, batch_size=1)
    together = probabilities(model, TEXTS, batch_size=4)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = probabilities(model, TEXTS, batch_size=2)
    torch.set_num_threads(threads)
    assert np.abs(alone - together).max() < 1e-5
    assert np.abs(alone - again).max() < 1e-5


def test_long_texts_are_cut_and_counted(tmp_path):
    write_classifier(tmp_path, "bert")
    model = load_model(pin(tmp_path)).model
    assert num_truncated(model, ["great " * 200, "fine"]) == 1
    assert num_truncated(model, ["a b c d e f g"], max_length=4) == 1


def test_a_fused_classifier_loads_and_predicts(tmp_path):
    sources = []
    for index in range(2):
        write_classifier(tmp_path / f"m{index}", "bert", seed=index)
        sources.append(pin(tmp_path / f"m{index}", f"m{index}"))
    merge(sources, [0.5, 0.5], tmp_path / "out")
    for file in (tmp_path / "m0").iterdir():
        if file.suffix == ".json":
            (tmp_path / "out" / "model" / file.name).write_bytes(file.read_bytes())
    found = load_model(pin(tmp_path / "out" / "model")).model
    assert probabilities(found, TEXTS, batch_size=4).shape == (4, 2)


def test_a_model_without_a_head_is_refused(tmp_path):
    write_classifier(tmp_path, "bert", head=False)
    with pytest.raises(ModelError, match="no classification head"):
        load_model(pin(tmp_path))


def test_missing_tensors_are_never_made_up(tmp_path):
    write_classifier(tmp_path, "bert")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"classifier\.weight"):
        load_model(pin(tmp_path))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    write_classifier(tmp_path, "bert")
    edit_config(tmp_path, auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelError, match="auto_map"):
        load_model(pin(tmp_path))


def test_other_kinds_name_what_is_supported(tmp_path):
    write_classifier(tmp_path, "bert")
    edit_config(tmp_path, model_type="t5")
    with pytest.raises(ModelError, match="lstm-classifier, bert, roberta, gpt2"):
        load_model(pin(tmp_path))


def test_a_nan_is_named(tmp_path):
    write_classifier(tmp_path, "bert")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=r"classifier\.bias of m has 1 NaN"):
        load_model(pin(tmp_path))


def test_a_checkpoint_that_changed_since_it_was_pinned_is_not_loaded(tmp_path):
    write_classifier(tmp_path, "bert")
    checkpoint = pin(tmp_path)
    write_classifier(tmp_path, "bert", seed=5)
    with pytest.raises(SourceChangedError):
        load_model(checkpoint)


def test_the_flow_answers_with_classes_text_and_ensembles(tmp_path):
    write_classifier(tmp_path / "a", "bert", seed=1)
    write_classifier(tmp_path / "b", "bert", seed=2)
    write_classifier(tmp_path / "g", "gpt2", head=False)
    a, b = pin(tmp_path / "a", "a"), pin(tmp_path / "b", "b")
    one, other = (predict([c], [1.0], TEXTS) for c in (a, b))
    both = predict([a, b], [0.5, 0.5], TEXTS)
    assert [answer.text for answer in both] == TEXTS
    assert {answer.kind for answer in both} == {"class"}
    pooled = (one[0].probabilities["positive"] + other[0].probabilities["positive"]) / 2
    assert both[0].probabilities["positive"] == pytest.approx(pooled)
    (written,) = predict([pin(tmp_path / "g", "g")], [1.0], ["the film"])
    assert written.kind == "text"
    assert isinstance(written.answer, str)
