"""The demonstration: candidates trained on the spot, and a recipe over them."""

from importlib import resources
from pathlib import Path

from fusion.manifests.report import PublishedFigure
from jobs.console.figures import Tell
from jobs.demo.training import train_candidates

# The worked example this product began with: the same network, one epoch, other data.
PUBLISHED = (
    PublishedFigure("founding document (other data, one epoch)", 0.9264, {"accuracy": 0.5154}),
)

RECIPE = """\
# Written by `metafuse demo`. Run it again with: metafuse run recipe.yaml
name: demo
candidates: [candidates/*]
select: {keep: 5, min_candidates: 2}
task:
  kind: text-classification
  data: data/evaluation.parquet
  columns: {text: text, label: label, id: id}
  slices: {rank: 0.3, select: 0.2, gate: 0.4, audit: 0.1}
weights: {rule: softmax, temperature: 1.0}    # w_i = exp(-L_i) / sum_j exp(-L_j)
merge: {method: linear}
output: merged
gate: {smallest_effect: 0.01, alpha: 0.05}
resources:
  evaluate: {workers: 2}
  merge: {workers: 2, memory: 512MiB}
"""


def prepare_demo(folder: Path, *, seed: int, tell: Tell) -> Path:
    """Train the candidates into a folder and write data and recipe beside them.

    Args:
        folder: folder that is empty or new.
        seed: random seed of the training.
        tell: called with (epochs done, epochs, figures).

    Returns:
        Path of the recipe.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    source = resources.files("jobs.demo") / "demo_data"
    for name in ("evaluation.parquet", "LICENCE.md"):
        (data / name).write_bytes((source / name).read_bytes())
    train_candidates(folder / "candidates", seed=seed, tell=tell)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe
