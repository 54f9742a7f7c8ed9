"""Records of classifications, as a model would have left them."""

import numpy as np

from fusion.scores.records import Records
from fusion.scores.text_classification import log_loss


def made(probabilities, labels, *, losses=None, ids=None, clusters=None, predictions=None):
    """Records for probabilities [n, c] and class numbers [n]; the losses are the log losses."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    names = tuple(ids) if ids is not None else tuple(f"e{i}" for i in range(len(labels)))
    said = probabilities.argmax(axis=1) if predictions is None else np.asarray(predictions)
    return Records(
        ids=names,
        clusters=tuple(clusters or names),
        losses=log_loss(probabilities, labels) if losses is None else losses,
        units=np.ones(len(labels)),
        columns={"truth": labels.astype(np.float64), "prediction": said.astype(np.float64)},
        outputs=probabilities,
    )
