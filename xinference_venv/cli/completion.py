"""`completion`: the script that lets a shell complete commands, options, models and workers."""

from __future__ import annotations

import click
from click.shell_completion import FishComplete, get_completion_class

PROGRAM = "xinference-venv"
_VARIABLE = "_XINFERENCE_VENV_COMPLETE"


class _Fish(FishComplete):
    """Click's script cuts each description at its first comma (seen with click 8.5)."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split -m 1 ","'
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script that makes a shell complete this command line.

    \b
      in ~/.bashrc                  eval "$(xinference-venv completion bash)"
      in ~/.zshrc, after compinit   eval "$(xinference-venv completion zsh)"
      in ~/.config/fish/config.fish
                                    xinference-venv completion fish | source

    With a --supervisor the names of models and workers come from its cluster, which is waited for
    half a second at most.
    """
    made = _Fish if shell == "fish" else get_completion_class(shell)
    assert made is not None
    commands = click.get_current_context().find_root().command
    click.echo(made(commands, {}, PROGRAM, _VARIABLE).source())
    return 0
