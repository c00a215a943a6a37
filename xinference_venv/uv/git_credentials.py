"""Credentials of git repositories on their way to git, through no argument vector.

uv hands the URL that it is given to ``git fetch`` as an argument, where every user of the host can
read it. So uv gets URLs without credentials, and git finds them in a private file, by its own
credential helper ``store`` (git-credential-store(1)).

Comes in: requirement lines. Comes out: the lines without the credentials of repositories, the lines
of the file, and the variables by which git hears of it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

_REPOSITORY = re.compile(r"git\+(?P<url>https?://[^\s]+)", re.IGNORECASE)
_LOGIN = re.compile(r"(git\+https?://)[^/?#\s]*@", re.IGNORECASE)


def without_git_login(line: str) -> str:
    """A requirement line whose repository, if any, has no user and password."""
    return _LOGIN.sub(r"\1", line)


def git_logins(lines: Iterable[str]) -> tuple[str, ...]:
    """What a file of git's has of the credentials in requirement lines: URLs of hosts with them."""
    found = []
    for match in (match for line in lines for match in _REPOSITORY.finditer(line)):
        parts = urlsplit(match["url"])
        login, at, host = parts.netloc.rpartition("@")
        if at:
            user, colon, password = login.partition(":")
            # A token alone stands for the user; most servers take any password with it.
            found.append(f"{parts.scheme}://{user}:{password if colon else ''}@{host}{parts.path}")
    return tuple(dict.fromkeys(found))


def git_variables(
    logins: tuple[str, ...], scratch: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """Write the logins into a private folder; the variables that lead git there, if there are any.

    `environment` is what git has already: its own settings by variable go on to hold.
    """
    if not logins:
        return {}
    file = scratch / "git-credentials"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.writelines(f"{each}\n" for each in logins)
    hosts = [urlsplit(each).hostname for each in logins]
    # git lets a shell read it.
    settings = {"credential.helper": f"store --file={shlex.quote(str(file))}"}
    if len(set(hosts)) < len(hosts):
        # Repositories of one host have logins of their own.
        settings["credential.useHttpPath"] = "true"
    first = int(environment.get("GIT_CONFIG_COUNT", "0") or 0)
    variables = {"GIT_CONFIG_COUNT": str(first + len(settings))}
    for number, (name, value) in enumerate(settings.items(), first):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
