"""`python -m jobs` is `metafuse`."""

from jobs.entry import main

main()
