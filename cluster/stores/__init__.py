"""Stores of objects: one protocol, one folder or file a kind."""
