"""The mathematics: pure functions over tensors, bytes and plain values."""
