"""`python -m jobs` is `metafuse`."""

from jobs.cli.entry import main

main()
