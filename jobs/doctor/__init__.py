"""What is wrong here, before a night is lost."""
