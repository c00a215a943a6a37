"""The command line: words in, one result on standard output, an exit code that means something.

A command that only looks at this host asks `ThisHost`; the others work through a client of the
actors of this process, or of a cluster's supervisor. What people read is made in `render`.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import TextIO

import click

from xinference_venv.cli.common import report
from xinference_venv.cli.completion import PROGRAM
from xinference_venv.cli.help import HelpfulGroup
from xinference_venv.cli.output import unwritable
from xinference_venv.cli.stopped import Stopped
from xinference_venv.cli.verbosity import add_common_options
from xinference_venv.errors import InvalidInput, JobCancelled, VirtualEnvError
from xinference_venv.service.places import user_home


@click.group(cls=HelpfulGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xinference-venv", prog_name=PROGRAM)
def commands() -> None:
    """Make and manage the Python environments of models on this host, or on those of a cluster.

    Every model gets exactly the packages that it asks for, and uses those of the host where
    they fit. An environment is never half made and never changed under a running process.

    \b
      xinference-venv launch MODEL --dry-run    what would be installed
      xinference-venv launch MODEL              make its environment
      xinference-venv list                      what is there, and who uses it
      xinference-venv doctor                    what is wrong with this host

    With --supervisor HOST:PORT a command works on all hosts of that supervisor's cluster.
    `xinference-venv COMMAND --help` says more of each.
    """


add_common_options(commands)

_ASCII = dict(zip("├│└─…", "||`-~", strict=True))
# Those of rich's spinner.
_ASCII |= dict.fromkeys(map(chr, range(0x2800, 0x2900)), "*")


def _open_standard_streams() -> None:
    """Lead those that were closed to nowhere: else the next file that is opened gets their place.

    Python has no object for them then (CPython: `sys.stdout` is None).
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for good)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for good)
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)


def _buffered(stream: TextIO) -> TextIO:
    """The same stream, with a buffer where PYTHONUNBUFFERED, which images set, has taken it away.

    Without one CPython drops what a write leaves: https://github.com/python/cpython/issues/85393
    """
    if not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    # The stream itself stays open: by its own object Python finds the width of the terminal.
    opened = open(stream.fileno(), "w", encoding=stream.encoding, closefd=False)  # noqa: SIM115
    opened.reconfigure(line_buffering=True)
    return opened


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an output's encoding has not, as escapes; what tables and trees are drawn with, in ASCII
    characters, of which each is as wide.
    """
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    drawn = _ASCII.get(error.object[error.start])
    return codecs.backslashreplace_errors(error) if drawn is None else (drawn, error.end)


def _drop_unwritten() -> None:
    """Lead to nowhere what a stream takes no more: it would be a traceback at Python's end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _unwritten() -> VirtualEnvError | None:
    """The error of standard output, if it takes no more: click's own texts go there as well."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return unwritable("standard output", error)
    return None


def _misused(error: click.ClickException) -> InvalidInput:
    """A command line that can't be understood, as an error like any other."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    details = {} if context is None else {"hint": f"see `{context.command_path} --help`"}
    return InvalidInput(error.format_message(), details)


def _limited(what: str) -> VirtualEnvError:
    """The system gave this process no more memory, or no more threads."""
    return VirtualEnvError(
        f"the system gives this process no more {what}",
        {
            "hint": "raise its limits (`ulimit -v` of memory, `ulimit -u` of processes and"
            " threads), or those of its container"
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # What follows are the words of another command, as with `exec`.
    as_json = "--json" in takewhile("--".__ne__, words)
    # xoscar asks for the home directory when it is imported, which fails for a user who has none
    # (xoscar/constants.py).
    os.environ["HOME"] = os.environ.get("HOME") or user_home(os.environ)
    _open_standard_streams()
    # An unusual name on a terminal without UTF-8 is no reason to fail.
    codecs.register_error(PROGRAM, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors=PROGRAM)  # type: ignore[union-attr]
    try:
        return _run(words, as_json)
    finally:
        _drop_unwritten()


def _run(words: Sequence[str], as_json: bool) -> int:
    """Run a command; errors are printed and become exit codes."""
    try:
        code = commands.main(words, prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
        return report(JobCancelled("interrupted"), as_json)
    except click.ClickException as error:
        if not words:
            # Without any it is the help. Where nothing can be written the exit code still says it.
            with suppress(OSError):
                error.show()
            return error.exit_code
        return report(_misused(error), as_json)
    except Stopped as stopped:
        if stopped.number == signal.SIGPIPE:
            return 128 + stopped.number
        report(JobCancelled.by_signal(signal.Signals(stopped.number).name), as_json)
        return 128 + stopped.number
    except VirtualEnvError as error:
        return report(error, as_json)
    except UnicodeEncodeError as error:
        from xinference_venv.service.phases import name_error

        return report(name_error(error), as_json)
    except MemoryError:
        return report(_limited("memory"), as_json)
    except RuntimeError as error:
        # CPython has no class for it (Python/thread.c).
        if str(error) != "can't start new thread":
            raise
        return report(_limited("threads"), as_json)
    except OSError as error:
        from xinference_venv.service.phases import store_error

        return report(_unwritten() or store_error(error), as_json)
    return code or 0
