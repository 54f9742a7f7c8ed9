"""Flags and verbs; loads nothing heavy."""
