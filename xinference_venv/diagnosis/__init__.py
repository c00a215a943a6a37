"""What is wrong with a host or a cluster: pure checks, and the probes that feed them."""
