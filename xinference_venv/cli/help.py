"""What the help of the command line has besides its commands: environment variables, exit codes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from xinference_venv.cli.stopped import Stopped
from xinference_venv.cli.verbosity import add_common_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLES = (
    ("XINFERENCE_HOME", "the home: all is kept in its folder virtualenv/ (default: ~/.xinference)"),
    ("XINFERENCE_ENABLE_VIRTUAL_ENV", "0: no environment unless the launch says so (default: 1)"),
    ("XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED", "0: inherit nothing from the host (default: 1)"),
    ("XINFERENCE_VIRTUAL_ENV_INHERIT", "host, exact or none, as --inherit (default: host)"),
    ("XINFERENCE_VIRTUAL_ENV_VIEW", "links or files, as --view (default: links)"),
    (
        "XINFERENCE_VIRTUAL_ENV_PROOF",
        "0: import nothing that was compiled, as --no-proof (default: 1)",
    ),
    ("XINFERENCE_VIRTUAL_ENV_OFFLINE_INSTALL", "1: never ask a public index (default: 0)"),
    (
        "XINFERENCE_VIRTUAL_ENV_FIND_LINKS_ALLOWED_ROOTS",
        "folders, separated by colons, that --virtual-env-find-link may lie in (default: none)",
    ),
    ("XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES", "0: never build from source (default: 1)"),
    ("XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS", "1: uv may download a Python (default: 0)"),
    (
        "XINFERENCE_VIRTUAL_ENV_HOST_PYTHON",
        "the interpreter to inherit from (default: this program's)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT",
        "distributions, separated by commas, that every model must be able to import",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MUST_IMPORT_ALONE",
        "distributions of the host that models see even if their requirements are not met",
    ),
    ("XINFERENCE_VIRTUAL_ENV_SPEC_DIR", "folder of your own models (default: virtualenv/models)"),
    (
        "XINFERENCE_VIRTUAL_ENV_ALLOWED_HOSTS",
        "the only hosts that a request may name, separated by commas",
    ),
    ("XINFERENCE_VIRTUAL_ENV_UV_PROCESSES", "how many uv processes run at once (default: 5)"),
    (
        "XINFERENCE_VIRTUAL_ENV_RELAY",
        "auto, on or off: which wheels come through another worker (default: auto)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_RELAY_MAX_BYTES",
        "what wheels that were fetched for others may take (default: 10GB)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_PATIENCE",
        "seconds without progress after which uv is stopped (default: 120)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT",
        "seconds that one process of uv may take, and that a launch waits for another one of the"
        " same environment (default: 3600)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MAX_BYTES",
        "like 500GB: beyond it the least recently used are evicted (default: no limit)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MAX_UNUSED",
        "like 30d: what was not launched for so long is evicted (default: no limit)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_MAX_AGE_GAP",
        "how much older requested packages may be to keep the host's (default: 180d)",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_RESOLUTION_MAX_AGE",
        "how long an equal request gets an earlier lock, no index asked (default: 600s)",
    ),
    ("XINFERENCE_VIRTUAL_ENV_CONSTRAINTS", "constraints for every environment, like numpy<3"),
    ("XINFERENCE_VIRTUAL_ENV_OVERRIDES", "requirements that replace all others of the same name"),
    ("XINFERENCE_VIRTUAL_ENV_EXCLUDE", "distributions, separated by commas, never installed"),
    (
        "XINFERENCE_VIRTUAL_ENV_BUILD_CONSTRAINTS",
        "constraints for builds from source, like setuptools<81",
    ),
    (
        "XINFERENCE_VIRTUAL_ENV_TORCH_BACKEND",
        "cpu, cu128 or none: the build of torch where the host has no torch (default: cpu without"
        " an accelerator)",
    ),
    ("XINFERENCE_VIRTUAL_ENV_CUDA_VERSION", "plan as if the host had it, like 12.8"),
    ("XINFERENCE_VIRTUAL_ENV_CUDA_ARCH", "plan as if the host had it, like sm_90"),
    ("XINFERENCE_VIRTUAL_ENV_HAS_NPU", "1 or 0: plan as if the host had an NPU, or none"),
    ("XOSCAR_UV_PATH", "the uv to use (default: the one installed with this program)"),
    ("UV_CACHE_DIR", "uv's cache (default: uv's own, if it is on the file system of the home)"),
)
SUPERVISOR_VARIABLE = "XINFERENCE_VENV_SUPERVISOR"
# What a process needs to find its cluster, before it reads any of its settings.
CLUSTER_VARIABLES = (
    (SUPERVISOR_VARIABLE, "HOST:PORT of a cluster's supervisor, as --supervisor"),
    ("XOSCAR_AUTH_KEY", "a secret of all processes of a cluster, as `openssl rand -hex 32` prints"),
)
EXIT_CODES = (
    ("0", "done"),
    ("1", "an error without a code of its own; of `verify` and `doctor`: something is wrong"),
    ("2", "invalid input"),
    ("3", "what was named does not exist"),
    ("4", "refused, since it is in use"),
    ("5", "the environment could not be built, or its process not started"),
    ("6", "a disk operation failed"),
    ("7", "it took longer than allowed"),
    ("8", "a worker did not answer"),
    ("9", "two parts of a cluster are of releases that can't work together"),
    ("129", "cancelled (SIGHUP: the terminal was closed)"),
    ("130", "cancelled (Ctrl-C)"),
    ("141", "the output was not read to its end, as with `head`"),
    ("143", "cancelled (SIGTERM)"),
)


COMMANDS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "Environments": (
        (
            "launch",
            "launch:launch",
            "Make the environment of MODEL, or use the one that is ready, and print where it is.",
        ),
        (
            "prefetch",
            "prefetch:prefetch",
            "Bring packages and environments of each MODEL to this host, or to the workers of "
            "a cluster.",
        ),
        ("list", "listing:list_", "List the environments that are there: all, or those of MODEL."),
        (
            "packages",
            "packages:packages",
            "List the packages of MODEL's environments, each with where it is from and why.",
        ),
        (
            "show",
            "packages:show_",
            "Draw where the packages of MODEL's environments lie, and who shares them.",
        ),
        (
            "explain",
            "packages:explain",
            "Show what brought each package of MODEL's environments, and which of the host "
            "are hidden.",
        ),
        (
            "lock",
            "inside:lock",
            "Print the lock of MODEL's environment: a pylock.toml (PEP 751).",
        ),
        ("diff", "diff:diff", "Show which packages differ between the environments A and B."),
        (
            "remove",
            "remove:remove",
            "Remove the environments of MODEL, without confirmation; refused while they are "
            "in use.",
        ),
        (
            "models",
            "models:models",
            "List the models of the catalogue: built in, and of your own specification files.",
        ),
    ),
    "To other clusters": (
        (
            "export",
            "bundles:export",
            "Write the lock of MODEL's environment and its wheels to FILE, for `import` elsewhere.",
        ),
        (
            "import",
            "bundles:import_",
            "Make the environment that FILE, written by `export`, holds; no index is asked.",
        ),
    ),
    "What runs": (
        (
            "exec",
            "inside:exec_",
            "Run a command in MODEL's environment on this host: exec [OPTIONS] MODEL -- COMMAND.",
        ),
        (
            "jobs",
            "jobs:jobs",
            "List the jobs that make environments: those that run, and the last that ended.",
        ),
        (
            "cancel",
            "jobs:cancel",
            "Cancel a job, by its id or the beginning of that; nothing of it is left.",
        ),
        (
            "watch",
            "watch:watch",
            "Show jobs, environments and who uses them as they change, of all or of MODEL, "
            "until Ctrl-C.",
        ),
        (
            "logs",
            "logs:logs",
            "Show uv's output while MODEL's environments were made, and how the jobs ended.",
        ),
        (
            "leases",
            "leases:leases",
            "List who uses which environment: all leases, or those on MODEL's environments.",
        ),
        (
            "release",
            "leases:release",
            "Release leases that are still there although their process has ended.",
        ),
    ),
    "Maintenance": (
        (
            "doctor",
            "doctor:doctor",
            "Look for what is wrong with this host, and say what to do about it.",
        ),
        (
            "verify",
            "verify:verify",
            "Check every file of the environments that are there: of all, or of those of MODEL.",
        ),
        (
            "gc",
            "gc:gc",
            "Delete what nothing needs and what exceeds the limits; never what is in use.",
        ),
    ),
    "A cluster": (
        (
            "supervisor",
            "serve:supervisor",
            "Run the supervisor of a cluster until SIGTERM or Ctrl-C.",
        ),
        (
            "worker",
            "serve:worker",
            "Run the worker of this host until SIGTERM or Ctrl-C; its jobs are cancelled then.",
        ),
        (
            "workers",
            "workers:workers",
            "List the workers of a cluster: state, release, jobs, free disk, when last heard.",
        ),
        ("web", "serve:web", "Serve the REST API and the web page until SIGTERM or Ctrl-C."),
    ),
    "This program": (
        (
            "completion",
            "completion:completion",
            "Print the script that makes a shell complete this command line.",
        ),
    ),
}
"""The commands as the help lists them, each with the module of this folder that has it, and the
first sentence of its own help: the list must not wait for the import of all of them.
"""
_PLACES = {name: place for listed in COMMANDS.values() for name, place, _ in listed}
# Options of nearly every command, which other programs have before it.
_OF_COMMANDS = frozenset({"--supervisor", "--worker", "--json", "--output", "-o"})
_WIDTH = max(map(len, _PLACES))


class HelpfulGroup(click.Group):
    """A group that imports a command when it is called, so that each costs only its own time.

    Its help lists the commands in sections, and ends with variables and exit codes.
    """

    def __init__(self, *args: Any, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._loaded: dict[str, click.Command] = {}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        given = list(args)
        with _until_unread():
            try:
                return super().make_context(info_name, args, parent, **extra)
            except click.NoSuchOption as error:
                if error.option_name not in _OF_COMMANDS:
                    raise
                command = next((each for each in given if each in _PLACES), "COMMAND")
                where = f"It comes behind the command: {info_name} {command} {error.option_name}"
                raise click.UsageError(f"{error.message} {where}", error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        with _until_unread():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PLACES:
            return None
        # Apart from `commands`: what documents a group takes these for all that it has, or asks.
        if cmd_name not in self._loaded:
            module, _, attribute = _PLACES[cmd_name].partition(":")
            found = getattr(import_module(f"xinference_venv.cli.{module}"), attribute)
            add_common_options(found)
            self._loaded[cmd_name] = found
        return self._loaded[cmd_name]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands with their whole texts, and options; nothing is imported for it."""
        from click.shell_completion import CompletionItem

        listed = [(name, about) for each in COMMANDS.values() for name, _, about in each]
        return [
            *(
                CompletionItem(name, help=about)
                for name, about in listed
                if name.startswith(incomplete)
            ),
            *super(click.Group, self).shell_complete(ctx, incomplete),
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, listed in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(_WIDTH), about) for name, _, about in listed])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Environment variables"):
            formatter.write_dl((*VARIABLES, *CLUSTER_VARIABLES))
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with what may have been meant by a command that there is not."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], _PLACES, cutoff=0.7)
            if not close or "Did you mean" in error.message:
                # Later releases of click say it themselves.
                raise
            message = f"{error.message} Did you mean {' or '.join(close)}?"
            raise click.UsageError(message, ctx) from None


@contextmanager
def _until_unread() -> Iterator[None]:
    """Raise `Stopped` when who reads the output has gone; click would end the process with 1.

    https://github.com/pallets/click/issues/712
    """
    try:
        yield
    except BrokenPipeError:
        raise Stopped(signal.SIGPIPE) from None
