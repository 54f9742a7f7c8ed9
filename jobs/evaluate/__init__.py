"""Records for checkpoints: scored in parallel, kept by what was scored."""
