"""For those who use what was promoted: resolve, pull, predict."""
