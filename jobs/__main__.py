"""`python -m jobs` is `metafuse`."""

from jobs.cli import main

main()
