"""What the tests of the worker's work share: the real uv over the test's own index."""

from __future__ import annotations

from tests.uv.conftest import bench, uv

__all__ = ["bench", "uv"]
