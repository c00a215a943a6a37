"""A Python environment for every model of a serving cluster, on every host."""
