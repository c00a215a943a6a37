"""Credentials of repositories, as git itself finds them in the file that is written for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from xinference_venv.uv.git_credentials import git_logins, git_variables


@pytest.mark.parametrize("name", ["scratch", "o'brien's $HOME"])
def test_git_finds_the_login_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    scratch = tmp_path / name
    scratch.mkdir()
    logins = git_logins(["toy @ git+https://ann:secret@git.example/toy"])
    found = subprocess.run(
        ["git", "credential", "fill"],
        input="protocol=https\nhost=git.example\npath=toy\n\n",
        env={
            **os.environ,
            **git_variables(logins, scratch, {}),
            "GIT_TERMINAL_PROMPT": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "password=secret\n" in found.stdout, found.stderr
