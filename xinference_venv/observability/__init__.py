"""Metrics and logs: what is counted, and how it is written."""
