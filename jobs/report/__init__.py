"""A value as pages, plots, card and table."""
