"""Policies in Rego that say which runs a host refuses: read once, checked as a whole, and asked for each run."""
