import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from cluster.errors import AwayError, ClusterError, FullError, ImportsError, ThrottledError
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.scores.contract import score
from fusion.scores.text_classification import TEXT_CLASSIFICATION
from jobs.candidates.pin import pin_checkpoint
from jobs.commands.evaluate import slice_data
from jobs.errors import DataError, SourceChangedError
from jobs.evaluate.rescoring import Rescoring, rescore
from jobs.evaluate.score import score_all
from jobs.recipes.recipe import load_recipe
from jobs.run.prepare import make_task
from jobs.tasks.examples import load_examples


def task_of(project):
    return make_task(load_recipe(project / "recipe.yaml"))


def candidates(project, names="abcd"):
    return [pin_checkpoint(str(project / "candidates" / name), name=name)[0] for name in names]


def run(project, slices=("rank",), names="abcd", task=None):
    seen = []
    book = score_all(
        candidates(project, names), slices, task or task_of(project),
        cache=str(project / "cache"), hands=Hands(SerialRunner(), 1),
        tell=lambda *entry: seen.append(entry),
    )  # fmt: skip
    return book, seen


def test_every_candidate_gets_a_row_an_example(project):
    book, seen = run(project, slices=("rank", "gate"))
    assert len(book.results) == 8
    assert [entry[:2] for entry in seen] == [(i, 8) for i in range(9)]
    records = book.records["a", "rank"]
    assert len(records.ids) == len(load_examples(task_of(project)).rows("rank"))
    assert records.outputs.shape == (len(records.ids), 2)
    found = score(records, TEXT_CLASSIFICATION.metrics, name="a", slice="rank")
    assert 0.5 < found.metrics["accuracy"] <= 1
    assert not set(records.ids) & set(book.records["a", "gate"].ids)


def test_the_second_time_nothing_is_computed(project):
    first, _ = run(project)
    second, seen = run(project)
    assert seen == []
    assert all(result.is_cached for result in second.results.values())
    for key, records in first.records.items():
        assert (records.losses == second.records[key].losses).all()


def test_progress_counts_examples(project):
    folder = str(project / "cache")
    task = slice_data(task_of(project), "rank", folder)
    book, seen = run(project, slices=("rank", "gate"), names="ab", task=task)
    total = sum(len(records.ids) for records in book.records.values())
    assert [entry[2].total_examples for entry in seen] == [total] * 5
    assert seen[-1][2].num_examples == total > 0
    assert seen[-1][2].total_bytes == 0


def test_other_bytes_or_another_task_are_scored_anew(project):
    run(project)
    path = project / "candidates" / "a" / "vocab.txt"
    path.write_text(path.read_text())
    book, _ = run(project)
    assert [name for (name, _), r in book.results.items() if not r.is_cached] == ["a"]


def test_a_score_file_is_a_plain_table(project):
    book, _ = run(project, names="a")
    table = parquet.read_table(project / "cache" / book.results["a", "rank"].key)
    names = ["id", "cluster", "loss", "units", "prediction", "truth", "outputs"]
    assert table.column_names == names


def test_a_candidate_that_fails_does_not_stop_the_others(project):
    (project / "candidates" / "b" / "vocab.txt").write_text("no pad\n")
    book, _ = run(project)
    assert [failure.name for failure in book.failures] == ["b"]
    assert "[PAD] and [UNK] first" in book.failures[0].message
    assert {name for name, _ in book.records} == {"a", "c", "d"}


def test_scoring_again_one_by_one_gives_the_same_losses(project):
    book, _ = run(project, names="a")
    (checkpoint,) = candidates(project, "a")
    order = Rescoring(checkpoint, task_of(project), book.records["a", "rank"])
    assert rescore(order) < 1e-5


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_csv_and_json_lines_are_read_too(project, suffix):
    table = parquet.read_table(project / "data" / "eval.parquet")
    path = project / "data" / f"eval.{suffix}"
    if suffix == "csv":
        csv.write_csv(table, path)
    else:
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    recipe = project / "recipe.yaml"
    before = load_examples(task_of(project))
    recipe.write_text(recipe.read_text().replace("eval.parquet", f"eval.{suffix}"))
    assert load_examples(task_of(project)).texts == before.texts


def test_data_that_changed_since_it_was_pinned_is_refused(project):
    task = task_of(project)
    path = project / "data" / "eval.parquet"
    shutil.copy(path, project / "copy")
    (project / "copy").replace(path)
    with pytest.raises(SourceChangedError, match="when it was pinned"):
        load_examples(task)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": [None, "x"]}, "column 'text' is empty in row 0"),
        ({"label": ["", "1"]}, "column 'label' is empty in row 0"),
        ({"id": ["a", "a"]}, "given more than once"),
        ({"text": [1, 2]}, "is not text in row 0"),
    ],
)
def test_bad_values_are_named_with_their_row(project, change, message):
    values = {"text": ["x", "y"], "label": ["0", "1"], "id": ["a", "b"], **change}
    parquet.write_table(pa.table(values), project / "data" / "eval.parquet")
    with pytest.raises(DataError, match=message):
        load_examples(task_of(project))


def test_a_file_that_is_no_table_is_refused(project):
    (project / "data" / "eval.parquet").write_bytes(b"not a table")
    with pytest.raises(DataError, match="not a table"):
        load_examples(task_of(project))


def test_examples_of_one_document_stay_together(project):
    table = parquet.read_table(project / "data" / "eval.parquet").to_pydict()
    table["document"] = [f"d{i // 4}" for i in range(len(table["text"]))]
    parquet.write_table(pa.table(table), project / "data" / "eval.parquet")
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("id: id}", "id: id, cluster: document}"))
    examples = load_examples(task_of(project))
    where = {}
    for cluster, name in zip(examples.clusters, examples.slices, strict=True):
        if name:
            where.setdefault(cluster, set()).add(name)
    assert all(len(names) == 1 for names in where.values())


def test_a_damaged_score_file_is_named(project):
    from fusion.errors import ManifestError

    book, _ = run(project, names="a")
    open_store(str(project / "cache")).put(book.results["a", "rank"].key, b"garbage")
    with pytest.raises(ManifestError, match="not a score file"):
        run(project, names="a")


class Lost(SerialRunner):
    """Workers that come back with an error of their machines at the second item."""

    def __init__(self, error):
        self.error = error

    def run_tasks(self, function, items, /, **how):
        for done in super().run_tasks(function, items, **how):
            yield replace(done, value=None, error=self.error) if done.index == 1 else done


@pytest.mark.parametrize(
    "error",
    [
        AwayError("the store is down"),
        FullError("the store is full"),
        ThrottledError("slow down"),
        ImportsError("a worker cannot import the code of metafuse"),
        ModuleNotFoundError("No module named 'jobs.evaluate'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_machines_do_is_not_billed_to_a_candidate(project, error):
    with pytest.raises(ClusterError) as raised:
        score_all(
            candidates(project), ["rank"], task_of(project),
            cache=str(project / "cache"), hands=Hands(Lost(error), 1),
        )  # fmt: skip
    assert str(error) in str(raised.value)
    book, _ = run(project)  # the same command continues
    assert book.results["a", "rank"].is_cached
    assert not book.failures
