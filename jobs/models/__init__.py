"""How a checkpoint becomes something that predicts."""
