"""The Quaymaster agent: a program that is one or more workers of a pool."""

__version__ = "0.1.0"
