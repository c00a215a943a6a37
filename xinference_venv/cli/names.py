"""What a shell may complete: the names of models, environments and workers."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from xinference_venv.completing import environment_names, model_names, worker_names

SUPERVISOR = "xinference_venv.supervisor"
"""Where a command's context keeps the address of its supervisor."""


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The models that begin like that."""
    return _beginning(incomplete, model_names(os.environ, ctx.meta.get(SUPERVISOR)))


def environments(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The environments that begin like that, as `EnvName.parse` reads them."""
    return _beginning(incomplete, environment_names(os.environ, ctx.meta.get(SUPERVISOR)))


def workers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The IPs and addresses of workers that begin like that."""
    return _beginning(incomplete, worker_names(ctx.meta.get(SUPERVISOR)))


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
