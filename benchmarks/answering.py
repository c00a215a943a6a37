"""The models of `benchmarks.first_answer`: what they answer takes imports of their own packages.

Imported by processes that have xoscar or Ray, and what the model asks for.
"""

from __future__ import annotations

import io

import xoscar as xo


def render() -> str:
    """What rich makes of a few words."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(file=io.StringIO(), width=40)
    with console.capture() as captured:
        console.print(Markdown("# First\n\n* answer"))
    return captured.get()


def multiply() -> str:
    """A product of matrices."""
    import torch  # type: ignore[import-not-found]

    return str(float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()))


class Rendering(xo.Actor):  # type: ignore[misc]
    """A small model."""

    def answer(self) -> str:
        """Its answer."""
        return render()


class Multiplying(xo.Actor):  # type: ignore[misc]
    """A model that needs torch."""

    def answer(self) -> str:
        """Its answer."""
        return multiply()
