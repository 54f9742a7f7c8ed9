"""The user's YAML as frozen values."""
