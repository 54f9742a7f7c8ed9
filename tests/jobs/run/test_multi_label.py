"""Several labels at once, through the whole job: judged, fused, asked."""

import copy
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from pyarrow import parquet

from cluster.stores.open_store import open_store
from jobs.evaluate.record_files import load_records
from tests.support.calling import call, plan
from tests.support.running import run_project
from tests.support.tiny_models import make_config, make_tokenizer

WORDS = {"food": ("food", "lovely"), "film": ("film", "great"), "trouble": ("broke", "awful")}
OTHERS = ("the", "was", "and", "fine", "an", "dull", "book", "it", "after", "a", "day")
RECIPE = """name: labels
candidates: [candidates/*]
task:
  kind: multi-label-classification
  data: eval.parquet
  columns: {text: text, labels: topics}
output: merged
gate: {mode: non_inferior, margin: 0.5}
"""


def make_rows(count, seed):
    generator = np.random.default_rng(seed)
    texts, sets = [], []
    for number in range(count):
        topics = [name for name in WORDS if generator.random() < 0.4]
        words = [*generator.choice(OTHERS, 4), *(generator.choice(WORDS[t]) for t in topics)]
        texts.append(" ".join(generator.permutation(words)) + f" {'a ' * (number % 7)}")
        sets.append(topics)
    return texts, sets


def train(model, tokenizer, seed, steps):
    texts, sets = make_rows(16 * steps, 100 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for start in range(0, len(texts), 16):
        batch = tokenizer(texts[start : start + 16], padding=True, return_tensors="pt")
        truth = torch.tensor(
            [[float(name in topics) for name in WORDS] for topics in sets[start : start + 16]]
        )
        optimizer.zero_grad()
        model(**batch, labels=truth).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    tokenizer = make_tokenizer("bert")
    config = make_config("bert", len(tokenizer), tuple(WORDS))
    config.problem_type = "multi_label_classification"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = transformers.BertForSequenceClassification(config)
        train(base, tokenizer, 0, 120)
        for seed, name in enumerate("abc", 1):
            model = copy.deepcopy(base)
            train(model, tokenizer, seed, 8)
            model.save_pretrained(folder / "candidates" / name)
            tokenizer.save_pretrained(folder / "candidates" / name)
    texts, topics = make_rows(900, 7)
    parquet.write_table(pa.table({"text": texts, "topics": topics}), folder / "eval.parquet")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def done(template):
    return run_project(template)


def test_plan_shows_how_often_each_label_stands(capsys, template):
    status, out, _ = plan(capsys, template)
    assert status == 0
    assert "food" in out


def test_the_average_is_promoted_and_the_report_knows_labels(template, done):
    assert done.outcome.result == "promoted"
    report = done.report
    assert {row.status for row in report.candidates} == {"kept"}
    (fused,) = (row for row in report.models if row.role == "fused")
    assert set(fused.gate.metrics) == {"micro_f1", "macro_f1", "exact", "hamming"}
    assert all(set(row.truth.split(", ")) <= {*WORDS, "none"} for row in report.examples)
    page = (template / "merged" / "runs" / done.run / "report.html").read_text()
    assert "micro F1" in page


def test_losses_and_probabilities_are_those_of_transformers(template, done):
    folder = template / "candidates" / "b"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    table = parquet.read_table(template / "eval.parquet").to_pydict()
    store = open_store(str(template / "merged" / "runs" / done.run / "scores"))
    records, _ = load_records(store, "b-gate.parquet")
    texts = dict(zip(done_ids(template), range(900), strict=True))
    for place in range(0, len(records.ids), 17):
        row = texts[records.ids[place]]
        truth = torch.tensor([[float(name in table["topics"][row]) for name in WORDS]])
        with torch.inference_mode():
            found = model(**tokenizer(table["text"][row], return_tensors="pt"), labels=truth)
        assert records.losses[place] == pytest.approx(found.loss.item(), rel=1e-5)
        assert records.columns["truth"][place].tolist() == truth[0].tolist()
        expected = found.logits.double().sigmoid()[0].numpy()
        np.testing.assert_allclose(records.outputs[place], expected, rtol=1e-5)


def done_ids(template):
    from jobs.recipes.recipe import load_recipe
    from jobs.run.prepare import make_task
    from jobs.tasks.examples import load_examples

    return load_examples(make_task(load_recipe(template / "recipe.yaml"))).ids


def plain_probabilities(folder, text):
    """By transformers alone."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(text, return_tensors="pt")).logits
    return logits.double().sigmoid()[0].numpy()


def test_the_fused_model_and_an_ensemble_say_labels(capsys, template, done):
    text = "the lovely food after the great film"
    (fused,) = (template / "merged" / "runs" / done.run).glob("model-*")
    candidates = sorted((template / "candidates").iterdir())
    for asked, members in (([template / "merged"], [fused]), (candidates, candidates)):
        status, out, err = call(capsys, "predict", *asked, "--text", text, "--json")
        assert status == 0, err
        answer = json.loads(out)
        expected = np.mean([plain_probabilities(folder, text) for folder in members], axis=0)
        found = [answer["probabilities"].pop(name) for name in WORDS]
        assert not answer["probabilities"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        said = [name for name, p in zip(WORDS, expected, strict=True) if p >= 0.5]
        assert (answer["kind"], answer["answer"]) == ("labels", ", ".join(said) or "none")


def test_a_classifier_of_one_class_is_refused(capsys, template, project):
    text = (project / "recipe.yaml").read_text()
    (project / "recipe.yaml").write_text(
        text.replace("text-classification", "multi-label-classification").replace(
            "label: label", "labels: label"
        )
    )
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "a model that decides on several labels at once" in err
