"""What is read, computed and written, as pure values."""
