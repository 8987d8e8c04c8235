"""Policies of hosts, tried where they are written."""
