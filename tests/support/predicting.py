"""What a loaded classifier says, as probabilities."""

from jobs.models.batches import find_outputs


def probabilities(model, texts, *, batch_size=2, max_length=None):
    """[n, c], rows of sum 1."""
    inputs = [{"text": text} for text in texts]
    logits = find_outputs(model, inputs, batch_size=batch_size, max_length=max_length)
    return logits.double().softmax(dim=-1).numpy()


def num_truncated(model, texts, *, max_length=None):
    return model.encode([{"text": text} for text in texts], max_length=max_length).num_truncated
