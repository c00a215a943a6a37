"""What the command line shows, as renderables of rich."""
