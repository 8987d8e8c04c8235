"""Requests come in: each record of the queues becomes a run or a dead letter; `inbox.receive_batch` leads here."""
