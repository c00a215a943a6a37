"""Make an environment from a lock with uv: an empty relocatable one, then exactly the lock."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import tomli_w
from packaging.utils import canonicalize_name

from xinference_venv._util.disk_threads import BUILDING
from xinference_venv._util.files import write_private_file
from xinference_venv._util.redact import secrets_of
from xinference_venv._util.tasks import ignore
from xinference_venv.errors import BuildFailed, InstallFailed, UvFailed
from xinference_venv.planning.lock import EnvLock
from xinference_venv.planning.pylock import pylock_of, strip_credentials
from xinference_venv.planning.spec import EnvSpec
from xinference_venv.sentences import sentence
from xinference_venv.uv import argv
from xinference_venv.uv.git_credentials import git_logins, git_variables
from xinference_venv.uv.messages import uncached_name
from xinference_venv.uv.subprocess import Uv

_STRETCHES = 4
_LINES_OF_BUILD = 40
# Where uv's cache has the source of what it built, which may contain wheels of its own.
_UNPACKED_SOURCE = "src"


@dataclass(kw_only=True)
class Builder:
    """One build, of an environment at `env`; `scratch` is a private folder for it.

    With `fresh_cache` it fetches all that it installs, whatever uv's cache has.
    """

    uv: Uv
    spec: EnvSpec
    env: Path
    scratch: Path
    deadline: float
    fresh_cache: bool = False

    async def make_empty(self) -> None:
        """Make the empty environment; raises `BuildFailed`."""
        try:
            await self.uv(
                argv.make_venv(path=str(self.env), python=self.spec.interpreter.base_executable),
                deadline=self.deadline,
            )
        except UvFailed as error:
            raise BuildFailed(str(error), error.details) from error

    async def install(
        self,
        lock: EnvLock,
        on_line: Callable[[str], None],
        on_received: Callable[[int], None] = ignore,
    ) -> None:
        """Install what the lock says; raises `InstallFailed` with uv's own words.

        `on_received` hears now and then how many bytes uv has received.
        """
        if not lock.packages:
            return
        try:
            await self._run(self._installing(lock), on_line, on_received)
        except UvFailed as error:
            raise InstallFailed(str(error), error.details) from error

    async def uncached(self, lock: EnvLock) -> frozenset[str]:
        """The names of the packages of a lock that uv says it would have to fetch."""
        lines: list[str] = []
        await self._run(argv.look_up(self._installing(lock)), lines.append)
        return frozenset(filter(None, map(uncached_name, lines)))

    def _installing(self, lock: EnvLock) -> argv.UvCommand:
        urls = self._urls_with_credentials()
        file = self.scratch / "pylock.install.toml"
        document = with_credentials(lock.pylock(), urls)
        document["packages"] = split_into_stretches(document["packages"], lock.sizes)
        write_private_file(file, tomli_w.dumps(document).encode())
        return argv.install(
            lock=str(file),
            python=str(self.env / "bin" / "python"),
            sources=self.spec.sources_without_backend(),
            allow_source_builds=self.spec.allow_source_builds,
            cache=str(self.scratch / "uv-cache") if self.fresh_cache else None,
            secrets=secrets_of(urls),
        )

    async def _run(
        self,
        asked: argv.UvCommand,
        on_line: Callable[[str], None],
        on_received: Callable[[int], None] | None = None,
    ) -> None:
        await self.uv(
            self._with_git(asked),
            deadline=self.deadline,
            on_line=on_line,
            on_received=on_received,
            working_directory=str(self.scratch),
        )

    def _with_git(self, command: argv.UvCommand) -> argv.UvCommand:
        logins = git_logins(line.text for line in self.spec.requirements)
        variables = git_variables(logins, self.scratch, self.uv.door.environment)
        return replace(command, environment={**command.environment, **variables})

    async def build_wheels(
        self,
        sources: Sequence[Mapping[str, Any]],
        *,
        isolated: bool,
        on_line: Callable[[str], None],
    ) -> dict[str, Path]:
        """Build the wheels of PEP 751 entries that have none; where each lies, by name.

        What is not `isolated` sees the packages of this environment while it is built. Raises
        `BuildFailed` with the build's own words.
        """
        urls = self._urls_with_credentials()
        file = self.scratch / "pylock.sources.toml"
        document = pylock_of(sources)
        write_private_file(file, tomli_w.dumps(with_credentials(document, urls)).encode())
        names = [package["name"] for package in sources]
        try:
            await self._run(
                argv.build(
                    lock=str(file),
                    python=str(self.env / "bin" / "python"),
                    sources=self.spec.sources_without_backend(),
                    build_constraints=self._build_constraints(),
                    # uv's own cache does not know what a build saw:
                    # https://github.com/astral-sh/uv/issues/16850
                    cache=None if isolated else str(self.scratch / "cache"),
                    secrets=secrets_of(urls),
                ),
                on_line,
            )
        except UvFailed as error:
            raise BuildFailed(
                sentence(
                    "could not build {names} from source: {error}",
                    names=", ".join(names),
                    error=error,
                ),
                {
                    "hint": sentence(
                        "ask for versions that have wheels, or forbid source builds with"
                        " XINFERENCE_VIRTUAL_ENV_ALLOW_SOURCES=0"
                    ),
                    **error.details,
                },
            ) from error
        return {name: await BUILDING.run(built_wheel, self.env, name) for name in names}

    async def build_folder(self, folder: str) -> Path:
        """Build the wheel of a folder of sources; raises `BuildFailed` with the build's own words.

        What is built without isolation sees the packages of this environment.
        """
        output = self.scratch / "built-folders" / uuid.uuid4().hex
        isolated = not self.spec.sources.no_build_isolation
        python = self.spec.interpreter.base_executable
        urls = self._urls_with_credentials()
        lines: deque[str] = deque(maxlen=_LINES_OF_BUILD)
        try:
            await self._run(
                argv.build_folder(
                    folder=folder,
                    output=str(output),
                    python=python if isolated else str(self.env / "bin" / "python"),
                    sources=self.spec.sources_without_backend(),
                    build_constraints=self._build_constraints(),
                    secrets=secrets_of(urls),
                ),
                lines.append,
            )
        except UvFailed as error:
            # Here uv's error does not repeat the output of the build.
            output_tail = "\n".join(takewhile(lambda line: not line.startswith("error:"), lines))
            raise BuildFailed(
                sentence(
                    "could not build {folder}: {error}\n{output}",
                    folder=folder,
                    error=error,
                    output=output_tail,
                ),
                error.details,
            ) from error
        [wheel] = await BUILDING.run(lambda: list(output.glob("*.whl")))
        return wheel

    def _build_constraints(self) -> str | None:
        """The file that bounds what builds use, if anything does."""
        if not self.spec.build_constraints:
            return None
        file = self.scratch / "build-constraints.txt"
        lines = "".join(f"{line}\n" for line in self.spec.build_constraints)
        write_private_file(file, lines.encode())
        return str(file)

    def _urls_with_credentials(self) -> list[str]:
        sources = self.spec.sources
        places = [*sources.extra_index_urls, *sources.find_links, sources.index_url or ""]
        direct = [line.text.rpartition(" @ ")[2] for line in self.spec.requirements]
        return [url for url in (*direct, *places) if strip_credentials(url) != url]


def split_into_stretches(
    packages: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]
) -> list[Any]:
    """Packages in an order of which every stretch has about as many bytes.

    uv links them to an environment in stretches, one for each processor; where all the large ones
    were in one, the others would wait for it.
    """
    largest_first = sorted(packages, key=lambda each: -sizes.get(each["name"], 0))
    return [each for start in range(_STRETCHES) for each in largest_first[start::_STRETCHES]]


def built_wheel(env: Path, name: str) -> Path:
    """The wheel, in uv's cache, of a distribution that was installed as links into the cache.

    uv keeps a wheel that it built next to a link to what it unpacked of it. Raises `BuildFailed`.
    """
    for linked in env.glob("lib/python*/site-packages/*.dist-info/WHEEL"):
        if canonicalize_name(linked.parent.name.partition("-")[0]) != name:
            continue
        unpacked = linked.resolve().parent.parent
        for folder, folders, files in chain.from_iterable(
            os.walk(bucket) for bucket in unpacked.parent.parent.glob("sdists-*")
        ):
            if _UNPACKED_SOURCE in folders:
                folders.remove(_UNPACKED_SOURCE)
            for file in files:
                path = Path(folder, file)
                if path.suffix == ".whl" and path.with_suffix("").resolve() == unpacked:
                    return path
    raise BuildFailed(
        sentence("uv's cache has no wheel of {name}, though it was built from source", name=name)
    )


def _as_locked(url: str) -> str:
    """A URL as uv locks it: a repository's own, the host in lower case, no fragment."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    scheme = parts.scheme.rpartition("+")[2]
    return urlunsplit((scheme, f"{login}{at}{host.lower()}", parts.path, parts.query, ""))


def with_credentials(document: Mapping[str, Any], urls: list[str]) -> dict[str, Any]:
    """A PEP 751 document whose URLs have the credentials that `urls` carry.

    A URL that was asked for as it stands gets its own back, query included; any other gets user
    and password of an index or repository on the same host.
    """
    urls = [_as_locked(url) for url in urls]
    exact = {strip_credentials(url): url for url in urls}
    logins: dict[tuple[str, str], str] = {}
    for url in urls:
        login, found, host = urlsplit(url).netloc.rpartition("@")
        if found:
            logins.setdefault((urlsplit(url).scheme, host), login)

    def completed(url: str) -> str:
        if url in exact:
            return exact[url]
        parts = urlsplit(url)
        login = logins.get((parts.scheme, parts.netloc))
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}")) if login else url

    def walk(value: Any, *, of_git: bool = False) -> Any:
        if isinstance(value, Mapping):
            return {
                # git has the logins of repositories by itself, but for the user of ssh.
                key: (each if of_git and not each.startswith("ssh:") else completed(each))
                if key == "url" and isinstance(each, str)
                else walk(each, of_git=key == "vcs")
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [walk(each) for each in value]
        return value

    return {key: walk(value) for key, value in document.items()}
