"""What is written beside a model, and what a run tells."""
