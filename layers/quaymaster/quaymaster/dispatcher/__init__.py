"""The use cases: read, decide, write, announce. One module for each; the table is the queue, messages are doorbells."""
