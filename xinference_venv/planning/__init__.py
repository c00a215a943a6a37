"""From request to lock, pure: what a launch means on a host, decided from facts alone."""
