"""What words of a command line name: models, environments, workers, for the completion of shells.

The values are taken as they are given; whoever works with them checks them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from xinference_venv.completing import environment_names, model_names, worker_names

SUPERVISOR = "xinference_venv.supervisor"
"""Where a command's context keeps the address of its supervisor."""


class ModelName(click.ParamType):
    """The name of a model."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The models that begin like that."""
        return _beginning(incomplete, model_names(os.environ, ctx.meta.get(SUPERVISOR)))


class EnvironmentName(click.ParamType):
    """The name of an environment, as `EnvName.parse` reads it."""

    name = "environment"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The environments that begin like that."""
        return _beginning(incomplete, environment_names(os.environ, ctx.meta.get(SUPERVISOR)))


class WorkerName(click.ParamType):
    """The IP or the address of a worker."""

    name = "worker"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The workers that begin like that."""
        return _beginning(incomplete, worker_names(ctx.meta.get(SUPERVISOR)))


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
