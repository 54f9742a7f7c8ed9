"""What a run knows when its model is judged."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.evaluate.score import ScoreBook
from jobs.merge.fuse import FusedModel
from jobs.run.weigh import ChosenWeights


@dataclass(frozen=True, slots=True)
class Witness:
    """What a run knows when it is judged.

    Attributes:
        ranked: scores on the rank slice.
        chosen: weights of the candidates, and why they were chosen.
        fused: the committed model.
        others: baselines that are judged beside the model.
    """

    ranked: ScoreBook
    chosen: ChosenWeights
    fused: FusedModel
    others: Sequence[Checkpoint]
