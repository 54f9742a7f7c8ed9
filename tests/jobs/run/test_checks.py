"""What a run would refuse after paying for evaluations, `plan` and `run` refuse before."""

import shutil

import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from jobs.models.families import MODELS
from jobs.models.offered import OFFERED
from jobs.recipes.recipe import load_recipe
from jobs.run.prepare import make_task
from jobs.tasks.examples import load_examples
from tests.support.calling import call, edit_recipe
from tests.support.running import run_project
from tests.support.tiny_models import edit_config, write_classifier

WORDS = ("great", "fine", "lovely", "awful", "dull", "broke", "film", "book", "food", "day")


def write_like(folder, first, shift):
    """A candidate that differs from the first by its tensors alone."""
    shutil.copytree(first, folder)
    path = folder / "model.safetensors"
    tensors = {name: tensor + shift for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return write_classifier(folder / "a", "bert", labels=("bad", "mixed", "good"))


@pytest.fixture
def bert(tmp_path, trained):
    """Two BERT classifiers of three classes, data for them, a recipe."""
    for shift, name in enumerate("ab"):
        write_like(tmp_path / "candidates" / name, trained, shift / 100)
    texts = [" ".join(WORDS[(i // 10**k) % 10] for k in range(4)) + f" {i}" for i in range(400)]
    labels = [("bad", "mixed", "good")[i * 7 % 3] for i in range(400)]
    parquet.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "eval.parquet")
    (tmp_path / "recipe.yaml").write_text(
        "name: r\ncandidates: [candidates/*]\noutput: merged\n"
        "task: {kind: text-classification, data: eval.parquet}\n"
    )
    return tmp_path


def refused(capsys, project, status=10):
    """What `plan` and `run` say: the same, and nothing was begun."""
    said = {}
    for verb in ("plan", "run"):
        found, _, said[verb] = call(capsys, verb, project / "recipe.yaml")
        assert found == status, said[verb]
        assert not (project / "merged" / "runs").exists()
    assert said["plan"] in said["run"]
    return said["plan"]


def change(project, **changes):
    for folder in (project / "candidates").iterdir():
        edit_config(folder, **changes)


def relabel(project, label):
    path = project / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["label"] = [label(i) for i in range(len(table["text"]))]
    parquet.write_table(pa.table(table), path)


def test_the_models_of_this_file_are_planned(capsys, bert):
    assert call(capsys, "plan", bert / "recipe.yaml")[0] == 0


def test_what_is_offered_without_torch_is_what_is_loaded_with_it():
    assert OFFERED.keys() == MODELS.keys()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "distilbert"}, "is a 'distilbert' model; of those"),
        ({"architectures": ["BertModel"]}, "has no classification head"),
        ({"architectures": None}, "has no classification head"),
        ({"id2label": None, "label2id": None}, "has 3 outputs, config.json names 2"),
        ({"id2label": None, "label2id": None, "num_labels": 3}, "holds 'bad' (row 0)"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}, "holds 'bad' (row 0)"),
        ({"auto_map": {"AutoModel": "x.y"}}, "brings code of its own"),
    ],
)  # fmt: skip
def test_models_that_no_evaluation_could_load(capsys, bert, changes, said):
    change(bert, **changes)
    assert said in refused(capsys, bert)


def test_a_model_saved_without_its_head(capsys, bert):
    for folder in (bert / "candidates").iterdir():
        path = folder / "model.safetensors"
        kept = {name: t for name, t in load_file(path).items() if "classifier" not in name}
        save_file(kept, path, metadata={"format": "pt"})
    assert "has no classifier.weight: it was saved without its head" in refused(capsys, bert)


def test_truths_of_one_class_only(capsys, bert):
    relabel(bert, lambda _: "good")
    assert "all 400 rows have 'good' in column 'label'" in refused(capsys, bert)


def test_a_rank_slice_of_one_class_only(capsys, bert):
    edit_recipe(bert, "eval.parquet}", "eval.parquet, columns: {id: id}}")
    path = bert / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["id"] = [f"e{i}" for i in range(400)]
    parquet.write_table(pa.table(table), path)
    examples = load_examples(make_task(load_recipe(bert / "recipe.yaml")))
    rank = set(examples.rows("rank"))
    relabel(bert, lambda i: "good" if i in rank else "bad")
    assert "rows of the rank slice have 'good'" in refused(capsys, bert)


def test_a_merge_that_does_not_fit_into_its_memory(capsys, bert):
    edit_recipe(bert, "name: r", "name: r\nresources: {merge: {memory: 1MiB}}")
    assert "E-MEMORY" in refused(capsys, bert)


def test_an_output_in_a_file(capsys, bert):
    (bert / "taken").write_text("")
    edit_recipe(bert, "output: merged", "output: taken/out")
    for verb in ("plan", "run"):
        status, _, err = call(capsys, verb, bert / "recipe.yaml")
        assert (status, "is a file" in err) == (21, True)


def test_an_output_of_another_recipe(capsys, project):
    run_project(project)
    edit_recipe(project, "name: nightly", "name: other")
    for verb in ("plan", "run"):
        status, _, err = call(capsys, verb, project / "recipe.yaml")
        assert (status, "belongs to recipe 'nightly'" in err) == (11, True)
