"""Kinds of users: windows that fold to one record, references that the decoder is fed with."""

import numpy as np
import pytest
import torch
import transformers

from fusion.checkpoints.checkpoint import Pin
from fusion.scores.contract import TaskSpec, score
from fusion.scores.records import Records
from jobs.errors import DataError, RecipeError
from jobs.models.text_model import TextModel
from jobs.recipes.recipe import parse_recipe
from jobs.run.prepare import make_task
from jobs.tasks.contract import Asked, Example, Task
from jobs.tasks.find_task import find_task
from jobs.tasks.scoring import score_examples
from tests.support.tiny_models import make_tokenizer

SPANS = "tests.support.span_kind:SPANS"
SUMMARIES = "tests.support.summary_kind:SUMMARIES"
CONTEXT = "the film was great and fine it broke after a day an awful dull book lovely food "
LIMIT = 20


def make_span_model():
    tokenizer = make_tokenizer("bert")
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=LIMIT,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = transformers.BertForQuestionAnswering(config).eval()
        torch.nn.init.normal_(model.qa_outputs.weight)
    return model, tokenizer, TextModel(model, tokenizer, "span", ())


def make_questions():
    """Contexts of one to three windows; answers at the first, the last and a middle token."""
    cells = []
    for count, answer in ((1, "the"), (2, "broke"), (3, "food"), (3, "awful")):
        context = (CONTEXT * count).strip()
        start = context.rindex("food") if answer == "food" else context.index(answer)
        cells.append(("a book", context, {"start": start, "text": answer}))
    task = find_task(SPANS)
    truths = task.truths([cell[2] for cell in cells], Asked((), {}, "x", "answer"))
    return [
        Example(f"e{i}", f"e{i}", {"text": cell[0], "text_pair": cell[1]}, truth)
        for i, (cell, truth) in enumerate(zip(cells, truths, strict=True))
    ]


def plain_span_loss(model, tokenizer, example):
    """Every window by itself, then one softmax over the context's tokens of all of them."""
    windows = tokenizer(
        example.inputs["text"], example.inputs["text_pair"], truncation="only_second",
        max_length=LIMIT, stride=3, return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    total = 0.0
    for name, edge in (("start_logits", 0), ("end_logits", 1)):
        everywhere, right = [], []
        for row, ids in enumerate(windows["input_ids"]):
            with torch.inference_mode():
                logits = model(
                    torch.tensor([ids]),
                    token_type_ids=torch.tensor([windows["token_type_ids"][row]]),
                )[name][0].double()
            for place, part in enumerate(windows.sequence_ids(row)):
                if part == 1:
                    everywhere.append(logits[place])
                    if windows["offset_mapping"][row][place][edge] == example.truth[edge]:
                        right.append(logits[place])
        assert right
        total += float(
            torch.logsumexp(torch.stack(everywhere), 0) - torch.logsumexp(torch.stack(right), 0)
        )
    return total, len(windows["input_ids"])


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_windows_of_a_long_context_fold_to_one_record(batch_size):
    model, tokenizer, loaded = make_span_model()
    examples = make_questions()
    task = find_task(SPANS)
    records, num_truncated = score_examples(
        task, loaded, examples, batch_size=batch_size, max_length=None
    )
    expected = [plain_span_loss(model, tokenizer, example) for example in examples]
    assert max(count for _, count in expected) > 2
    assert records.losses == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert records.ids == tuple(example.id for example in examples)
    assert (num_truncated, records.outputs) == (0, None)
    found = score(records, task.spec.metrics, name="m", slice="gate")
    assert found.metrics["start_loss"] == pytest.approx(records.columns["start_loss"].mean())


def test_a_truth_that_is_no_answer_is_refused_by_the_kind_itself():
    with pytest.raises(DataError, match="row 1 has no answer"):
        find_task(SPANS).truths([{"start": 0, "text": "a"}, "b"], Asked((), {}, "x", "answer"))


def make_writer():
    tokenizer = make_tokenizer("bert")
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = transformers.T5ForConditionalGeneration(config).eval()
    return model, tokenizer, TextModel(model, tokenizer, "tokens", ())


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_reference_is_fed_to_the_decoder_and_its_tokens_are_counted(batch_size):
    model, tokenizer, loaded = make_writer()
    pairs = [
        ("the film was great and fine", "great film"),
        ("an awful dull book", "dull"),
        ("it broke after a day and it was lovely food", "a film that broke after a day"),
    ]
    examples = [Example(str(i), str(i), {"text": a}, b) for i, (a, b) in enumerate(pairs)]
    task = find_task(SUMMARIES)
    records, _ = score_examples(task, loaded, examples, batch_size=batch_size, max_length=None)
    losses, units = [], []
    for text, reference in pairs:
        target = tokenizer(reference)["input_ids"]
        with torch.inference_mode():
            logits = (
                model(
                    input_ids=torch.tensor([tokenizer(text)["input_ids"]]),
                    decoder_input_ids=torch.tensor([[0, *target[:-1]]]),
                )
                .logits[0]
                .double()
            )
        told = logits.log_softmax(-1)
        losses.append(-sum(float(told[i, token]) for i, token in enumerate(target)))
        units.append(len(target))
    assert records.units.tolist() == units
    assert records.losses == pytest.approx(losses, rel=1e-5)
    assert records.loss == pytest.approx(sum(losses) / sum(units), rel=1e-5)


def test_a_kind_may_score_in_its_own_way():
    spec = TaskSpec("own", "tokens", {"text": "text", "truth": "any"}, {})

    def by_itself(model, examples):
        names = tuple(example.id for example in examples)
        return Records(names, names, np.arange(len(names)) * 1.0, np.ones(len(names)))

    task = Task(spec, lambda cells, _: cells, lambda _: 0.0, score=by_itself)
    examples = [Example(name, name, {"text": name}, "") for name in "ab"]
    records, _ = score_examples(task, None, examples, batch_size=1, max_length=None)
    assert (records.ids, records.loss) == (("a", "b"), 0.5)


RECIPE = """\
name: own
candidates: [s3://b/c/*]
task: {{kind: "{kind}", data: s3://b/eval.parquet, columns: {{{columns}}}}}
output: s3://b/out
gate: {{guards: [{{metric: {metric}, margin: 0.1}}]}}
"""


def task_of(kind=SPANS, columns="text: question", metric="start_loss"):
    text = RECIPE.format(kind=kind, columns=columns, metric=metric)
    recipe = parse_recipe(text, name="recipe.yaml", folder="/x")
    return make_task(recipe, pin=Pin(1, '"e"', None))


def test_a_recipe_names_a_kind_by_its_module():
    found = task_of()
    assert dict(found.columns) == {"text": "question", "text_pair": "text_pair", "answer": "answer"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tests.support.no_such:SPANS"}, "cannot be imported: No module named"),
        ({"kind": "tests.support.span_kind:NOTHING"}, "cannot be imported: .*NOTHING"),
        ({"kind": "tests.support.span_kind:NO_TASK"}, "is a TaskSpec, a jobs.tasks"),
        ({"columns": "text_pear: context"}, "text_pear: unknown key; did you mean 'text_pair'"),
        ({"metric": "accuracy"}, "gate.guards: expected start_loss, found 'accuracy'"),
    ],
)
def test_what_a_recipe_says_wrongly_of_a_kind_is_refused_before_anything_is_paid(changes, message):
    with pytest.raises(RecipeError, match=message):
        task_of(**changes)
