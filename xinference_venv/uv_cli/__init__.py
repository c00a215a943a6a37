"""The only place that knows uv: pure argument vectors, one door to subprocesses, what it says."""
