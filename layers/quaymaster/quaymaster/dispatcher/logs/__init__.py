"""The logs of runs: found for those who read them (`reading.show_log`), and put together when no worker can."""
