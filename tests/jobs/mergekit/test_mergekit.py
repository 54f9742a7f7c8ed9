import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import MethodError, WeightError
from jobs.commands.merge import run_merge
from jobs.errors import RecipeError
from jobs.exits import EXIT_STATUSES
from jobs.mergekit.document import parse_mergekit
from jobs.mergekit.request import mergekit_weight

GOLDEN = Path(__file__).parent.parent.parent / "golden"
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


WRONG = {
    "a word for a weight": ("{weight: abc}", "models.0.parameters.weight: expected a finite"),
    "an empty gradient": ("{weight: []}", "models.0.parameters.weight: expected a number, a list"),
    "a number for parameters": ("5", "models.0.parameters: expected a mapping such as"),
    "a list for parameters": ("[1]", "models.0.parameters: expected a mapping such as"),
    "yes for a weight": ("{weight: true}", "expected a finite number, found true"),
    "infinity": ("{weight: .inf}", "expected a finite number, found inf"),
    "a number beyond all floats": (f"{{weight: 1{'0' * 400}}}", "expected a finite number"),
    "a word in a gradient": ("{weight: [1, x]}", "models.0.parameters.weight.1: expected a fin"),
    "a filter without value": ("{weight: [{filter: mlp}]}", "weight.0: expected filter: WORD and"),
    "a filter of a number": ("{weight: {filter: 3, value: 1}}", "filter: expected a part of a"),
    "a filter in a filter": ("{weight: {value: [{value: 1}]}}", "value holds no filters"),
    "a filter with other keys": ("{weight: {value: 1, layer: 2}}", "weight.layer: a filter has"),
    "a filter beside a number": ("{weight: [{value: 1}, 2]}", "weight.1: expected filter: WORD"),
    "a table as a value": ("{weight: [[1]]}", "weight.0: expected a finite number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_the_wrong_kind_has_its_line(name):
    value, message = WRONG[name]
    text = f"merge_method: linear\nmodels:\n  - model: a\n    parameters: {value}\n  - model: b\n"
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert "config.yml:4: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: 5\n", "config.yml:2: models: a list of models is needed"),
        ("", "config.yml:1: models: a list of models is needed"),
        ("models: [5]\n", "config.yml:2: models.0: expected model: PATH, found 5"),
        ("models: [{model: a}]\nparameters: 5\n", "config.yml:3: parameters: expected a mapping"),
        ("models: [{model: a}]\nbase_model: [a]\n", "config.yml:3: base_model: expected a word"),
        ("models: [{model: a}]\ndtype: 16\n", "config.yml:3: dtype: expected a word, found 16"),
        ("models: [{model: a}]\nparameters: {normalize: maybe}\n", "expected true or false"),
    ],
)
def test_a_part_of_the_wrong_kind_has_its_line(text, message):
    with pytest.raises(RecipeError) as caught:
        parse("merge_method: linear\n" + text)
    assert message in str(caught.value)


def test_all_wrong_values_come_at_once_in_line_order():
    text = "dtype: 5\nmodels:\n  - {model: a, parameters: {weight: x}}\n  - 7\n"
    with pytest.raises(RecipeError) as caught:
        parse(text + "merge_method: linear\n")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines[:-1]] == ["1", "3", "4"]


def test_a_merge_method_that_is_no_word_is_refused():
    with pytest.raises(MethodError, match=r"\['linear'\] is not supported"):
        parse("merge_method: [linear]\nmodels: [{model: a}]\n")


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["filter", "value", "weight", "x"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    )
)
def test_any_value_of_a_parameter_is_used_or_refused(value):
    text = json.dumps({
        "merge_method": "linear",
        "models": [{"model": "a", "parameters": {"weight": value}}],
        "parameters": {"weight": 1},
    })  # fmt: skip
    try:
        document = parse(text)
    except RecipeError:
        return
    found = mergekit_weight(document, 0, "model.layers.0.x.weight", 0.5)
    assert isinstance(found, float)


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
