"""Checkpoints by their headers: tensors, pins, adapters, agreement."""
