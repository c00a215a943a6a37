"""The only place that knows uv: pure argument vectors, one door to subprocesses, its output."""
