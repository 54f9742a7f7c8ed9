"""Classes of pairs of texts: the same losses as transformers by itself; who reads one text only."""

import pytest
import torch
import transformers

from jobs.models.text_model import TextModel
from jobs.tasks.contract import Example
from jobs.tasks.find_task import find_task
from jobs.tasks.scoring import score_examples
from tests.support.calling import edit_recipe, plan
from tests.support.tiny_models import make_config, make_tokenizer

PAIRS = (("the film was great", "lovely food"), ("it broke", "an awful dull book after a day"),
         ("fine", "fine"))  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_losses_of_pairs_are_those_of_transformers(kind):
    tokenizer = make_tokenizer(kind)
    if kind == "bert":
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    classes = {"bert": transformers.BertForSequenceClassification,
               "roberta": transformers.RobertaForSequenceClassification,
               "gpt2": transformers.GPT2ForSequenceClassification}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = classes[kind](make_config(kind, len(tokenizer), ("no", "yes"))).eval()
    examples = [
        Example(f"e{n}", f"e{n}", {"text": one, "text_pair": two}, n % 2)
        for n, (one, two) in enumerate(PAIRS)
    ]
    task = find_task("text-classification")
    wrapped = TextModel(model, tokenizer, "classes", ("no", "yes"))
    records, _ = score_examples(task, wrapped, examples, batch_size=3, max_length=None)
    for n, pair in enumerate(PAIRS):
        with torch.inference_mode():
            row = tokenizer(*pair, return_tensors="pt")
            loss = model(**row, labels=torch.tensor([n % 2])).loss.item()
        assert records.losses[n] == pytest.approx(loss, rel=1e-5)


def test_a_model_that_reads_one_text_is_refused_by_plan(capsys, project):
    edit_recipe(project, "text: text,", "text: text, text_pair: text,")
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "reads one text, and task.columns.text_pair names a second" in err
