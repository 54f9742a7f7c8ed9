"""One file a kind of task: its columns, its examples."""
