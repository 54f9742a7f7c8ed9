"""A first run, offline."""
