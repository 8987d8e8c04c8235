"""Runs are placed on workers: tickets meet idle workers, and the worker is told; `match.match` leads here."""
