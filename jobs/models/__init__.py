"""How a checkpoint becomes something that predicts."""

from jobs.models.loading import MODELS, Model, Predictions, load_model

__all__ = ["MODELS", "Model", "Predictions", "load_model"]
