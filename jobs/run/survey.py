"""What evaluation data looks like to a model that is not loaded: for `plan` and the report."""

from collections import Counter
from collections.abc import Sequence

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.manifests.survey import Survey
from fusion.scores.slices import SLICES
from jobs.candidates.heads import check_head
from jobs.models.lengths import count_lengths, find_most
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import Examples
from jobs.tasks.examples import read_truths
from jobs.tasks.find_task import find_task


def survey(checkpoint: Checkpoint, examples: Examples, task: EvaluationTask) -> Survey:
    """Look at the data as one of the candidates would read it; costs a second or two.

    Args:
        checkpoint: one of the candidates, which agree on tokenizer, labels and length.
        examples: the evaluation data.
        task: what it is for.
    """
    kind = find_task(task.kind)
    labels = check_head(checkpoint, kind.spec.head)
    classes: dict[str, int] = {}
    pairs = list(zip(examples.texts, map(repr, examples.cells), strict=True))
    if kind.spec.head in ("classes", "labels"):
        truths = read_truths(examples, task, labels)
        found = Counter(
            n for truth in truths for n in (truth if isinstance(truth, tuple) else [truth])
        )
        classes = {label: found[number] for number, label in enumerate(labels)}
    lengths = count_lengths(checkpoint, examples.inputs)
    counts = lengths.counts
    # Windows are cut of what is too long, where the kind of task makes them: nothing is lost.
    limit = find_most(checkpoint.config, task.max_length) if kind.stride is None else None
    num_cut = sum(count > limit for count in counts) * lengths.step if limit else 0
    return Survey(
        num_rows=len(examples.ids),
        num_clusters=len(set(examples.clusters)),
        slices={name: examples.sliced.counts.get(name, 0) for name in SLICES},
        num_repeated=examples.sliced.num_repeated,
        num_shared=examples.sliced.num_shared,
        classes=classes,
        median_tokens=counts[len(counts) // 2],
        high_tokens=counts[int(0.95 * (len(counts) - 1))],
        most_tokens=counts[-1],
        limit=limit,
        num_cut=num_cut,
        is_estimate=lengths.is_estimate or lengths.step > 1,
        num_copies=len(pairs) - len({*pairs}),
        num_contradicting=_count_several(pairs) if kind.spec.head == "classes" else 0,
    )


def _count_several(pairs: Sequence[tuple[str, str]]) -> int:
    """Number of texts that stand with more than one truth."""
    texts = Counter(text for text, _ in {*pairs})
    return sum(count > 1 for count in texts.values())
