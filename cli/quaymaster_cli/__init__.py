"""The `quaymaster` command: its start and end, and what its commands share."""
