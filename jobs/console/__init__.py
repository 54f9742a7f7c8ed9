"""What people and logs see."""
