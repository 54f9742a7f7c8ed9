"""The kinds of task that come with the product, by name. No torch: recipe and plan read this."""

from collections.abc import Mapping

from fusion.scores.contract import TaskSpec
from fusion.scores.multi_label import MULTI_LABEL
from fusion.scores.regression import REGRESSION
from fusion.scores.text_classification import TEXT_CLASSIFICATION

TASK_SPECS: Mapping[str, TaskSpec] = {
    spec.kind: spec for spec in (TEXT_CLASSIFICATION, MULTI_LABEL, REGRESSION)
}
