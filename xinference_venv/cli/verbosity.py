"""`-q`, `-v` and `-h`, which every command has; the first two before or after its name."""

from __future__ import annotations

import click

from xinference_venv.cli.output import write

_QUIET = "xinference_venv.quiet"
_VERBOSE = "xinference_venv.verbose"
_LOG_FORMAT = "log_format"


def add_common_options(command: click.Command) -> None:
    """Give a command, or the group of all, the three options."""
    command.params += [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_remember_quiet,
            help="Print the result and errors alone: no progress, no warnings.",
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_remember_verbose,
            help="Log what is done on standard error; -vv logs more.",
        ),
        # By itself click lets an output that takes no more pass for any other error of the disk.
        click.Option(
            ["-h", "--help"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_help,
            help="Show this message and exit.",
        ),
    ]


def is_quiet() -> bool:
    """Whether progress and warnings are not to be printed."""
    return bool(click.get_current_context().meta.get(_QUIET))


def verbosity() -> int:
    """How often `-v` was given."""
    return int(click.get_current_context().meta.get(_VERBOSE, 0))


def _show_help(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        write(context.get_help())
        context.exit()


def _remember_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value or context.meta.get(_QUIET, False)


def _remember_verbose(context: click.Context, _: click.Parameter, value: int) -> None:
    total = context.meta[_VERBOSE] = value + context.meta.get(_VERBOSE, 0)
    # The commands that run for long have a log anyway, in a format of their own.
    has_log = any(each.name == _LOG_FORMAT for each in context.command.params)
    if total and not has_log and not isinstance(context.command, click.Group):
        from xinference_venv.cli.logging_option import start_logging

        start_logging("text", total)
