"""Directories that older releases and Xinference left."""
