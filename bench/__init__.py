"""Benchmarks: figures as ratios against a yardstick of the same run. Nothing here is a test."""
