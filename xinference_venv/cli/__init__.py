"""The command line; see `main`."""

from xinference_venv.cli.main import main

__all__ = ["main"]
