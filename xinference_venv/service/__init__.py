"""The worker's work as plain classes, usable without an actor."""
