"""What all AWS adapters share: clients, the meaning of error codes, and log lines that are metrics."""
