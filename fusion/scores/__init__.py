"""Scores: records of predictions, metrics by kind, slices."""
