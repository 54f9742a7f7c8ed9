"""Tasks: a file a kind (truth, rows, floor), over data, slices and scoring that all share."""
