"""`plan` says what the evaluation data looks like, counted as the models would."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.candidates.pin import pin_checkpoint
from jobs.models.families import load_model
from jobs.models.lengths import MOST_CHARACTERS, count_lengths, count_longest, find_most
from tests.support.calling import call, edit_recipe, plan
from tests.support.tiny_lstm import write_candidates
from tests.support.tiny_models import write_classifier

TEXTS = [
    "",
    "fine",
    "the film was great and fine " * 3,
    "an awful dull book " * 30,
    "it broke " * 60,
]


def inputs_of(texts, pair=None):
    more = {} if pair is None else {"text_pair": pair}
    return [{"text": text, **more} for text in texts]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("max_length", [None, 20, 600])
@pytest.mark.parametrize("pair", [None, "lovely food"])
def test_as_many_texts_are_cut_as_the_loaded_model_cuts(tmp_path, kind, max_length, pair):
    checkpoint, _ = pin_checkpoint(str(write_classifier(tmp_path / "a", kind)), name="a")
    inputs = inputs_of(TEXTS, pair)
    encoded = load_model(checkpoint).model.encode(inputs, max_length=max_length)
    lengths = count_lengths(checkpoint, inputs)
    limit = find_most(checkpoint.config, max_length)
    assert sum(count > limit for count in lengths.counts) == encoded.num_truncated
    assert encoded.num_truncated > 0
    assert not lengths.is_estimate
    assert count_longest(checkpoint, inputs, max_length) == limit
    assert count_longest(checkpoint, inputs[:2], max_length) == lengths.counts[1]
    assert count_longest(checkpoint, [], max_length) == 0


def test_words_of_an_lstm_are_counted_as_it_reads_them(tmp_path):
    write_candidates(tmp_path)
    checkpoint, _ = pin_checkpoint(str(tmp_path / "a"), name="a")
    encoded = load_model(checkpoint).model.encode(inputs_of(TEXTS), max_length=None)
    counts = count_lengths(checkpoint, inputs_of(TEXTS)).counts
    limit = find_most(checkpoint.config, None)
    assert sum(count > limit for count in counts) == encoded.num_truncated == 2


def test_of_very_many_texts_a_part_is_counted(tmp_path):
    checkpoint, _ = pin_checkpoint(str(write_classifier(tmp_path / "a", "bert")), name="a")
    texts = ["a" * (MOST_CHARACTERS // 1000 + 1)] * 1000
    lengths = count_lengths(checkpoint, inputs_of(texts))
    assert (lengths.step, len(lengths.counts)) == (2, 500)


def test_the_plan_shows_rows_classes_slices_lengths_and_cut_texts(capsys, project):
    edit_recipe(project, "  columns:", "  max_length: 8\n  columns:")
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["text"][0] += " word" * 100
    parquet.write_table(pa.table(table), path)
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "data       800 rows in " in out
    assert "classes    " in out
    assert "; 8 are read, " in out
    _, out, _ = call(capsys, "plan", project / "recipe.yaml", "--json")
    seen = json.loads(out)["data"]
    assert sum(seen["classes"].values()) == seen["num_rows"] == 800
    assert sum(seen["slices"].values()) + seen["num_repeated"] == 800
    assert (seen["most_tokens"] > 100, seen["num_cut"] > 0, seen["limit"]) == (True, True, 8)


def test_a_model_with_a_slow_tokenizer_alone_gives_an_estimate_that_says_so(capsys, project):
    folder = project / "berts"
    for name in "ab":
        write_classifier(folder / name, "bert", seed=ord(name))
        for path in folder.glob("*/tokenizer.json"):
            path.unlink()
        (folder / name / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\n")
    edit_recipe(project, "candidates/*", "berts/*")
    status, out, err = plan(capsys, project)
    assert status == 0, err
    assert "lengths are an estimate" in out
