import json
import shutil
import sys
from pathlib import Path

import pytest

from fusion.errors import MethodError, WeightError
from jobs.cli import EXIT_STATUSES
from jobs.errors import RecipeError
from jobs.merge_command import run_merge
from jobs.mergekit import parse_mergekit

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import compare  # noqa: E402  # kept as it came, imports its neighbour by name
import golden_inputs  # noqa: E402

CASES = sorted(path.name for path in (GOLDEN / "cases").iterdir())


@pytest.mark.parametrize("name", CASES)
def test_mergekit_documents_give_mergekits_bits(name, tmp_path):
    case = json.loads((GOLDEN / "cases" / name / "case.json").read_text())
    golden_inputs.build(case["models"], tmp_path)
    shutil.copy(GOLDEN / "cases" / name / "config.yml", tmp_path)

    def merge():
        return run_merge(
            tmp_path / "config.yml", str(tmp_path / "out"), memory="1GiB", as_json=False
        )

    if case["rule"] == "error":
        with pytest.raises(Exception) as caught:  # any typed refusal
            merge()
        assert EXIT_STATUSES[caught.value.code] in (10, 12)
        assert not (tmp_path / "out" / "model.safetensors").exists()
    else:
        assert merge() == 0
        found = compare.compare(GOLDEN / "cases" / name, tmp_path / "out", bitwise=True)
        assert found == []
        assert not list(tmp_path.glob("out.ledger-*"))


def parse(text):
    return parse_mergekit(text, name="config.yml", folder="/models")


MODELS = "models:\n  - {model: a, parameters: {weight: 1}}\n  - {model: b}\n"


def test_other_methods_name_what_is_supported():
    with pytest.raises(MethodError, match=r"config\.yml:4.*'ties'.*supported: linear"):
        parse(MODELS + "merge_method: ties\n")


def test_what_mergekit_ignores_in_silence_is_a_warning():
    document = parse(MODELS + "merge_method: linear\nnormalise: true\nparameters: {wieght: 1}\n")
    assert any("normalise" in line for line in document.warnings)
    assert any("did you mean 'weight'" in line for line in document.warnings)


@pytest.mark.parametrize("key", ["slices", "modules", "tokenizer"])
def test_parts_that_are_not_offered_are_named_with_their_line(key):
    with pytest.raises(RecipeError, match=rf"config\.yml:5: {key} is not supported"):
        parse(MODELS + f"merge_method: linear\n{key}: []\n")


def test_a_model_listed_twice_is_refused():
    with pytest.raises(RecipeError, match="listed twice"):
        parse("models: [{model: a}, {model: a}]\nmerge_method: linear\n")


def test_gradients_and_filters_reach_the_tensors(tmp_path):
    models = {
        name: {"family": "llama", "layers": 3, "hidden": 32, "inter": 48, "vocab": 64,
               "dtype": "float32", "seed": seed}
        for name, seed in (("a", 1), ("b", 2))
    }  # fmt: skip
    golden_inputs.build(models, tmp_path)
    (tmp_path / "config.yml").write_text(
        "models:\n"
        "  - model: a\n"
        "    parameters: {weight: [{filter: mlp, value: [1, 0]}, {value: 1}]}\n"
        "  - model: b\n"
        "    parameters: {weight: [{filter: mlp, value: [0, 1]}, {value: 0}]}\n"
        "merge_method: linear\n"
    )
    run_merge(tmp_path / "config.yml", str(tmp_path / "out"), memory="1GiB", as_json=True)
    a, b, out = (golden_inputs.read_model(tmp_path / name) for name in ("a", "b", "out"))

    def equal(x, y):
        return (x[1] == y[1]).all()

    assert equal(out["model.layers.0.mlp.up_proj.weight"], a["model.layers.0.mlp.up_proj.weight"])
    assert equal(out["model.layers.2.mlp.up_proj.weight"], b["model.layers.2.mlp.up_proj.weight"])
    middle = "model.layers.1.mlp.up_proj.weight"
    assert abs(out[middle][1] - (a[middle][1] + b[middle][1]) / 2).max() < 1e-6
    assert equal(out["model.norm.weight"], a["model.norm.weight"])


def test_weights_that_sum_to_zero_are_refused(tmp_path):
    models = {n: {"family": "llama", "layers": 1, "hidden": 32, "inter": 48, "vocab": 64,
                  "dtype": "float32", "seed": 1} for n in "ab"}  # fmt: skip
    golden_inputs.build(models, tmp_path)
    (tmp_path / "config.yml").write_text(
        "models:\n  - {model: a, parameters: {weight: 1}}\n  - {model: b, parameters: "
        "{weight: -1}}\nmerge_method: linear\n"
    )
    with pytest.raises(WeightError, match="sum to 0"):
        run_merge(tmp_path / "config.yml", str(tmp_path / "out"), memory="1GiB", as_json=True)
