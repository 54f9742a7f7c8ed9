"""What follows a run: history kept, people told."""
