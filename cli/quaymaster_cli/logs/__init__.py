"""A run's log, read or followed, through outages, and printed as it was written."""
