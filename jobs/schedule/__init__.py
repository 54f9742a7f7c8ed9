"""Nights: when a recipe runs by itself."""
