"""What each verb does, in order, and what it shows."""
