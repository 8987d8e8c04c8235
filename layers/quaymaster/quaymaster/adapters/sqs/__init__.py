"""`ports.Queue` over SQS."""
