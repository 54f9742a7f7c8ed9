"""mergekit's YAML as a merge request."""
