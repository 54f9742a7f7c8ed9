"""Text classification: class numbers as truths, probabilities as outputs."""

from collections.abc import Mapping

import numpy as np

from fusion.scores.records import Floats
from fusion.scores.text_classification import TEXT_CLASSIFICATION as SPEC
from fusion.scores.text_classification import answers, constant_loss
from jobs.tasks.contract import Batch, Task
from jobs.tasks.labels import class_numbers


def rows(batch: Batch) -> Mapping[str, Floats]:
    """Losses, predictions and probabilities; the softmax is taken in float64."""
    probabilities: Floats = batch.outputs["logits"].double().softmax(dim=-1).numpy()
    truth = np.array(batch.truths, dtype=np.float64)
    return {
        **answers(probabilities, {"truth": truth}),
        "units": np.ones_like(truth),
        "truth": truth,
        "outputs": probabilities,
    }


TEXT_CLASSIFICATION = Task(spec=SPEC, truths=class_numbers, floor=constant_loss, rows=rows)
