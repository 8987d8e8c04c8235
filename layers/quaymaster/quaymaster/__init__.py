"""Quaymaster: an event-driven dispatcher of runs to pools of workers."""

__version__ = "0.1.0"
