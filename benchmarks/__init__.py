"""Runnable comparisons with what exists; each prints a table and fails on no time."""
