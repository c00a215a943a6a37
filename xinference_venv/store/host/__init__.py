"""The host's own distributions, as they lie on disk."""
