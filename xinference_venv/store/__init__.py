"""The only place that knows the disk: where things lie, how they are written, what links."""
