"""Work on a Ray cluster; all that imports ray."""
