"""The command line: words in, one result on standard output, an exit code that means something.

Every command works through a client of the actors of this process, or of a cluster's supervisor;
what people read is made in `console` and `progress`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import click

from xinference_venv.cli import inventory
from xinference_venv.cli.common import report
from xinference_venv.cli.completion import PROGRAM, completion
from xinference_venv.cli.diff import diff
from xinference_venv.cli.doctor import doctor
from xinference_venv.cli.gc import gc
from xinference_venv.cli.help import HelpfulGroup
from xinference_venv.cli.inventory import workers
from xinference_venv.cli.launch import launch
from xinference_venv.cli.leases import leases, release
from xinference_venv.cli.logs import logs
from xinference_venv.cli.serve import supervisor, web, worker
from xinference_venv.cli.session import Stopped
from xinference_venv.cli.verify import verify
from xinference_venv.cli.watch import watch
from xinference_venv.errors import InvalidInput, JobCancelled, VirtualEnvError
from xinference_venv.service.phases import store_error
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


_COMMANDS = (
    launch,
    inventory.list_,
    inventory.packages,
    inventory.show_,
    inventory.explain,
    diff,
    inventory.remove,
    inventory.models,
    logs,
    watch,
    verify,
    leases,
    release,
    gc,
    doctor,
    supervisor,
    worker,
    workers,
    web,
    completion,
)
for _each in _COMMANDS:
    commands.add_command(_each)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default this process's; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in words
    # xoscar asks for the home directory when it is imported, which fails for a user who has none
    # (xoscar/constants.py).
    os.environ["HOME"] = os.environ.get("HOME") or user_home(os.environ)
    _open_standard_streams()
    # An unusual name on a terminal without UTF-8 is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = commands.main(words, prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
        return report(JobCancelled("interrupted"), as_json)
    except click.ClickException as error:
        if as_json:
            return report(InvalidInput(error.format_message()), as_json)
        error.show()
        return error.exit_code
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        report(JobCancelled(f"cancelled by {name}; nothing of it is left"), as_json)
        return 128 + stopped.number
    except VirtualEnvError as error:
        return report(error, as_json)
    except OSError as error:
        return report(store_error(error), as_json)
    return code or 0
