"""What a shell is offered for an argument or an option: models, environments, workers.

Every command names these functions; what finds the names is imported when a shell asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

SUPERVISOR = "xinference_venv.supervisor"
"""Where a command's context keeps the address of its supervisor."""


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The models that begin like that."""
    from xinference_venv.cli.completion_candidates import model_names

    return _beginning(incomplete, model_names(os.environ, ctx.meta.get(SUPERVISOR)))


def environments(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The environments that begin like that, as `parse_name` reads them."""
    from xinference_venv.cli.completion_candidates import environment_names

    return _beginning(incomplete, environment_names(os.environ, ctx.meta.get(SUPERVISOR)))


def workers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The IPs and addresses of workers that begin like that."""
    from xinference_venv.cli.completion_candidates import worker_names

    return _beginning(incomplete, worker_names(ctx.meta.get(SUPERVISOR)))


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
