"""Histories of the shipped use cases by chance, in memory, with everything going wrong that can."""
