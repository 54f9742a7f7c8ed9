"""From scores to decisions: weights, selection, differences, gate."""
