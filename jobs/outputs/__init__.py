"""What stands in an output, and who may change it."""
