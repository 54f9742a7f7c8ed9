"""Several labels at once: sets of labels as truths, independent probabilities as outputs."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from fusion.scores.multi_label import MULTI_LABEL as SPEC
from fusion.scores.multi_label import answers, constant_loss
from fusion.scores.records import Floats
from jobs.tasks.contract import Batch, Task
from jobs.tasks.label_sets import LabelSet, label_sets


def rows(batch: Batch) -> Mapping[str, Floats]:
    """Losses, labels that are said, and probabilities; sigmoids are taken in float64."""
    probabilities: Floats = batch.outputs["logits"].double().sigmoid().numpy()
    truth = np.zeros_like(probabilities)
    for row, numbers in enumerate(batch.truths):
        truth[row, list(cast(LabelSet, numbers))] = 1
    return {
        **answers(probabilities, {"truth": truth}),
        "units": np.ones(len(truth)),
        "truth": truth,
        "outputs": probabilities,
    }


MULTI_LABEL = Task(spec=SPEC, truths=label_sets, floor=constant_loss, rows=rows)
