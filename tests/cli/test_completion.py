"""The completion of real shells, with models and workers that are really there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.daemons import Daemons, eventually
from tests.index import black_hole
from xinference_venv.cli.help import COMMANDS

# Ask the shell for the completions of a line as its own TAB would.
BASH = """\
eval "$(xinference-venv completion bash)"
read -ra COMP_WORDS <<< "$LINE"
[[ $LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_xinference_venv_completion xinference-venv
printf '%s\\n' "${COMPREPLY[@]}"
"""
# Outside of its line editor zsh offers nothing: what the script hands over to that is printed.
ZSH = """\
autoload -U compinit && compinit -u -d "$HOME/.zcompdump"
eval "$(xinference-venv completion zsh)"
compadd() { print -l -- "${(@P)@[-1]}" }
_describe() { print -l -- "${(@)${(@P)@[-2]}%%:*}" }
words=(${(z)LINE})
[[ $LINE == *" " ]] && words+=("")
CURRENT=${#words}
_xinference_venv_completion
"""
FISH = """\
xinference-venv completion fish | source
complete -C "$LINE"
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
ABOUT = {name: about for listed in COMMANDS.values() for name, _, about in listed}
Complete = Callable[..., list[str]]


@pytest.fixture
def complete(environ: Mapping[str, str], tmp_path: Path) -> Complete:
    """The completions of a line in a shell; skips where that is not installed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "xinference-venv"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m xinference_venv "$@"\n')
    program.chmod(0o755)

    def complete(shell: str, line: str, *, described: bool = False, **variables: str) -> list[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}
        done = subprocess.run(
            [shell, *plain[shell], "-c", SCRIPTS[shell]],
            env={
                **environ,
                **variables,
                "LINE": f"xinference-venv {line}",
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        lines = [each for each in done.stdout.split("\n") if each]
        return lines if described else [each.partition("\t")[0] for each in lines]

    return complete


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_commands_models_and_environments(
    complete: Complete, environ: Mapping[str, str], shell: str
) -> None:
    place = Path(environ["XINFERENCE_HOME"], "virtualenv", "v4", "magnificent", "vllm", "3.11")
    place.mkdir(parents=True)
    assert complete(shell, "ver") == ["verify"]
    assert complete(shell, "launch magn") == ["magnificent"]
    assert "magika-1" in complete(shell, "launch ")
    assert complete(shell, "diff magn") == ["magnificent/vllm/3.11"]
    assert complete(shell, "list --eng") == ["--engine"]


def test_a_command_is_described_by_its_whole_sentence(complete: Complete) -> None:
    assert complete("fish", "verif", described=True) == [f"verify\t{ABOUT['verify']}"]
    assert complete("fish", "list --eng", described=True) == [
        "--engine\tOnly of this engine, like vllm."
    ]


def test_to_complete_a_command_imports_none(environ: Mapping[str, str]) -> None:
    asked = {
        "_XINFERENCE_VENV_COMPLETE": "zsh_complete",
        "COMP_WORDS": "xinference-venv ",
        "COMP_CWORD": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "xinference_venv"],
        env={**environ, **asked},
        capture_output=True,
        text=True,
    )
    shown = ran.stdout.split("\n")
    assert {name: shown[shown.index(name) + 1] for name in ABOUT} == ABOUT
    assert "xinference_venv.cli.main" in ran.stderr
    assert "xinference_venv.cli.launch" not in ran.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_workers_of_a_cluster_and_its_models(
    complete: Complete, serving: Daemons, shell: str
) -> None:
    supervisor = serving.supervisor()
    worker = serving.worker(supervisor)
    layout = worker.home / "virtualenv" / "v3" / "magnificent" / "3.11"
    layout.mkdir(parents=True)
    known = {"XINFERENCE_VENV_SUPERVISOR": supervisor.address}
    line = f"packages --supervisor {supervisor.address} magn"
    # On a busy machine an answer may come too late for a shell: then one presses TAB again.
    eventually(lambda: complete(shell, line) == ["magnificent"])
    workers = ["127.0.0.2", worker.address]
    eventually(lambda: complete(shell, "list --worker 127", **known) == workers)


def test_a_supervisor_that_does_not_answer_holds_no_shell_up_and_says_nothing(
    complete: Complete, serving: Daemons
) -> None:
    with black_hole() as port:
        known = {"XINFERENCE_VENV_SUPERVISOR": f"127.0.0.1:{port}"}
        assert complete("bash", "launch magika-1", **known) == ["magika-1"]
    stopped = serving.supervisor()
    stopped.process.send_signal(signal.SIGSTOP)
    known = {"XINFERENCE_VENV_SUPERVISOR": stopped.address}
    assert complete("bash", "launch magika-1", **known) == ["magika-1"]
    assert complete("bash", "list --worker 1", **known) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_printed(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert "_XINFERENCE_VENV_COMPLETE" in ran.out


def test_another_shell_is_refused(run: Run) -> None:
    ran = run("completion", "csh")
    assert (ran.code, "'bash', 'zsh', 'fish'" in ran.err) == (2, True)
