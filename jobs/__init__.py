"""The work: what is asked for, what runs, what it leaves behind."""
