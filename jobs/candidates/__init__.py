"""Candidates: found, pinned, their headers and side files read."""
