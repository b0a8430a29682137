"""Sizes, latency, accuracy, gates and the report of a bundle; metrics for everyone. No torch."""
