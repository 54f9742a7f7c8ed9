"""Who does the work: the runner protocol, serial, threads, the policy of a pool."""
