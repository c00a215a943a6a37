"""From the package lines of engine, model and launch to what is asked of uv.

In come untrusted lines, the engines of the catalogue, and facts of the host; out come plain
PEP 508 lines and direct URLs, merged, each with its origin. A line is one of ::

    name[extras] >=1,<2            PEP 508
    name[extras] @ URL             PEP 508, as is
    URL                            https, http, file (an archive by absolute path), git+https ...
    #system_NAME#                  NAME in exactly the host's version
    #ENGINE_dependencies#          the engine's lines, if that engine is launched
    ENGINE_dependencies            the same

each with a marker behind a semicolon if wanted (see `markers`); behind a URL there has to be
white space before the semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import SplitResult, unquote, urlsplit

from packaging import requirements as pep508
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from xinference_venv._util.humanize import quoted
from xinference_venv._util.records import Record
from xinference_venv._util.redact import HIDDEN, redact_text
from xinference_venv.errors import InvalidRequirement
from xinference_venv.planning.engines import EngineEntry, find_engine
from xinference_venv.planning.markers import MarkerFacts, engines_in, evaluate
from xinference_venv.sentences import sentence

MAX_LINE_LENGTH = 2048
MAX_LINES = 1000

_FORMS = sentence(
    "Allowed are PEP 508 (numpy>=1.26, name[extra]==1.0, name @ URL), direct"
    " URLs, #system_NAME# and #ENGINE_dependencies#, each with a marker after"
    " ' ; ' if wanted."
)
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz", ".tar.zst")
# PEP 508 takes "x.whl" for a name, but uv for a file in the working directory.
_FILES = (*_ARCHIVES, ".txt")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_SYSTEM = re.compile(rf"#system_({_NAME})#", re.IGNORECASE)
_DEPENDENCIES = re.compile(rf"(#?)({_NAME})[-_.]+dependencies\1", re.IGNORECASE)
_BARE_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", re.IGNORECASE)
# Possessive, so that time is linear in long runs of white space.
_NAMED_URL = re.compile(rf"{_NAME}[ \t]*+(?:\[[^\]]*\])?[ \t]*+@")
_MARKER = re.compile(r"(?<![ \t])[ \t]*+;")
_URL_MARKER = re.compile(r"(?<![ \t])[ \t]++;")
_PATH = re.compile(
    rf"[/\\]|^[.~]|(?:{'|'.join(map(re.escape, _FILES))})[ \t]*+(?:[\[(<>=!~]|$)", re.IGNORECASE
)
_EGG = re.compile(rf"(?:^|&)egg=({_NAME})")
# uv would put environment variables in the place of "${NAME}" (as pip does,
# https://github.com/astral-sh/uv/issues/1473), and read what has blanks or ends with a backslash as
# more than a URL. RFC 3986 has these only percent-encoded, except "'", which
# shows that a marker stands behind a semicolon without the white space before it.
_NOT_IN_URLS = re.compile(r"""[\s"'<>\\^`{|}]""")
_HALF_URL = re.compile(r"[^\s/@:]*:(?!//).*@|(?<=\?).+", re.DOTALL)

_VERSION_CONTROL_SCHEMES = frozenset(
    f"{system}+{transport}"
    for system, transports in {
        "git": ("https", "http", "ssh", "git", "file"),
        "hg": ("https", "http", "ssh", "static-http", "file"),
        "svn": ("https", "http", "ssh", "svn", "file"),
        "bzr": ("https", "http", "ssh", "sftp", "ftp", "lp", "file"),
    }.items()
    for transport in transports
)
_SCHEMES = frozenset({"https", "http", "file"}) | _VERSION_CONTROL_SCHEMES


class Origin(StrEnum):
    """Who asked for a line; a later member's word counts more.

    `PROCESS`: what every model process needs, whoever the model is.
    """

    PROCESS = "process"
    ENGINE = "engine"
    MODEL = "model"
    LAUNCH = "launch"

    def reason(self, requirement: str) -> str:
        """Why a requirement of this origin is in a request."""
        match self:
            case Origin.PROCESS:
                return sentence("process: {requirement}", requirement=requirement)
            case Origin.ENGINE:
                return sentence("engine: {requirement}", requirement=requirement)
            case Origin.MODEL:
                return sentence("model: {requirement}", requirement=requirement)
            case Origin.LAUNCH:
                return sentence("launch: {requirement}", requirement=requirement)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementLine(Record, name="requirement line"):
    """One line for uv. ``text`` and ``written`` may hold credentials of a URL."""

    text: str = field(repr=False)
    """PEP 508 without a marker, or a direct URL."""
    name: str | None
    """Normalized (PEP 503); None for a URL that doesn't tell it."""
    origin: Origin
    written: str = field(repr=False)
    """The line as its author wrote it."""

    @property
    def is_direct(self) -> bool:
        """Whether it names a place. Without a marker only a URL has a colon."""
        return ":" in self.text

    @property
    def folder(self) -> str | None:
        """The folder of sources that it names, if it does."""
        parts = urlsplit(self.text.rpartition(" @ ")[2])
        return unquote(parts.path) if self.is_direct and _is_of_folder(parts) else None

    @property
    def is_system_pin(self) -> bool:
        """Whether it was written as ``#system_NAME#``."""
        return _SYSTEM.match(self.written.strip()) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What is asked of uv, in a stable order, and what a person should know about it."""

    lines: tuple[RequirementLine, ...]
    warnings: tuple[str, ...]


def plan_requirements(
    *,
    engine: str | None,
    model_format: str | None,
    model_packages: Sequence[str],
    launch_packages: Sequence[str],
    catalog_engines: Mapping[str, EngineEntry],
    facts: MarkerFacts,
    host_versions: Mapping[str, str],
    public_pins: bool,
    folders: bool = False,
) -> Requirements:
    """Expand, decide and merge all lines of a launch.

    The engine's own set counts where a placeholder asks for it, when nothing of the model's
    applies to it, or when the engine always needs it; what it needs for the model's format counts
    always. An engine that the catalogue doesn't know has no set. ``host_versions`` is by normalized
    name; the engine that markers see is ``engine``. With ``public_pins`` a pin to the host's
    version leaves its local part out, as in ``1.0+cpu``: an index rarely has that build. With
    `folders` a file URL may name a folder of sources. Raises `InvalidRequirement`, which names the
    line and its place.
    """
    launched = find_engine(catalog_engines, engine)
    reader = _Reader(
        launched=launched,
        engines=catalog_engines,
        facts=replace(facts, engine=engine),
        host_versions=host_versions,
        public_pins=public_pins,
        folders=folders,
    )
    of_model = [*reader.lines(model_packages, Origin.MODEL)]
    needs: tuple[str, ...] = ()
    if launched is not None:
        own = () if of_model and not launched.always else launched.packages
        of_format = launched.formats.get(model_format.lower(), ()) if model_format else ()
        needs = (*own, *of_format)
    read = [
        *reader.lines(needs, Origin.ENGINE),
        *of_model,
        *reader.lines(launch_packages, Origin.LAUNCH),
    ]
    lines = merge_lines(line for line, _ in read)
    # What was replaced needs no warning.
    kept = frozenset(lines)
    warnings = dict.fromkeys(warning for line, warning in read if warning and line in kept)
    return Requirements(lines=lines, warnings=tuple(warnings))


def read_line(written: str) -> tuple[str | None, str]:
    """The normalized name in a line (None where it tells none), and the line as it is understood.

    For who still writes: neither host nor catalogue is asked, so an engine that a placeholder
    means may be unknown. Credentials are hidden. Raises `InvalidRequirement`, which names it.
    """
    try:
        requirement, marker = _split(written)
        if marker is not None:
            evaluate(marker, MarkerFacts(environment={}))
        name: str | None = None
        text = requirement
        if match := _SYSTEM.fullmatch(requirement):
            name = canonicalize_name(match[1])
        elif not _DEPENDENCIES.fullmatch(requirement):
            line = _plain_line(requirement, Origin.LAUNCH, written)
            name, text = line.name, redact_text(line.text)
    except InvalidRequirement as error:
        message = sentence(
            "Invalid requirement {written}: {message}",
            written=_quoted_requirement(written),
            message=error.message,
        )
        raise InvalidRequirement(message, error.details) from None
    return name, text if marker is None else f"{text} ; {marker}"


def engines_named(lines: Iterable[str]) -> tuple[str, ...]:
    """The engines that markers and placeholders of package lines name, each once.

    A line that is wrong names none; who plans with it says what is wrong.
    """
    by_markers: list[str] = []
    by_placeholders: list[str] = []
    for line in lines:
        with suppress(InvalidRequirement):
            requirement, marker = _split(line)
            if marker is not None:
                by_markers += engines_in(marker)
            if match := _DEPENDENCIES.fullmatch(requirement):
                # The engine "llama.cpp" may be written as "llama_cpp" here.
                by_placeholders.append(match[2])
    return tuple(dict.fromkeys((*by_markers, *by_placeholders)))


def merge_lines(lines: Iterable[RequirementLine]) -> tuple[RequirementLine, ...]:
    """Of each name keep the lines of the origin that counts most, and each text once.

    Lines of one name and one origin are all kept, since they hold together. A URL without a
    known name stands for itself.
    """
    every = tuple(lines)
    strongest: dict[str, Origin] = {}
    for line in every:
        key = line.name or line.text
        strongest[key] = max(strongest.get(key, line.origin), line.origin, key=list(Origin).index)
    kept: dict[str, RequirementLine] = {}
    for line in every:
        if line.origin is strongest[line.name or line.text]:
            kept.setdefault(line.text, line)
    return tuple(kept.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    """Lines as they are written to lines for uv, each with a warning if there is one."""

    launched: EngineEntry | None
    engines: Mapping[str, EngineEntry]
    facts: MarkerFacts
    host_versions: Mapping[str, str]
    public_pins: bool
    folders: bool

    def lines(
        self, written: Sequence[str], origin: Origin
    ) -> Iterator[tuple[RequirementLine, str | None]]:
        if len(written) > MAX_LINES:
            raise InvalidRequirement(
                sentence(
                    "There are {written_count} {origin} packages",
                    written_count=len(written),
                    origin=origin,
                ),
                {"hint": sentence("Allowed are at most {max_lines}.", max_lines=MAX_LINES)},
            )
        for position, line in enumerate(written):
            try:
                yield from self._line(line, origin)
            except InvalidRequirement as error:
                place = f"{origin} packages[{position}]"
                message = sentence(
                    "Invalid requirement {line} in {place}: {message}",
                    line=_quoted_requirement(line),
                    place=place,
                    message=error.message,
                )
                raise InvalidRequirement(message, error.details) from None

    def _line(self, written: str, origin: Origin) -> Iterator[tuple[RequirementLine, str | None]]:
        requirement, marker = _split(written)
        holds = marker is None or evaluate(marker, self.facts)
        if match := _SYSTEM.fullmatch(requirement):
            if holds:
                text, warning = self._pinned(canonicalize_name(match[1]))
                yield _named_line(text, origin, written), warning
        elif match := _DEPENDENCIES.fullmatch(requirement):
            if holds:
                yield from self._engine_lines(match[2], origin)
        else:
            line = _plain_line(requirement, origin, written, folders=self.folders)
            if holds:
                yield line, None

    def _pinned(self, name: str) -> tuple[str, str | None]:
        version = self.host_versions.get(name)
        if version is None:
            return name, f"#system_{name}#: the host has no {name}, so any version will do"
        try:
            pinned = Version(version)
            return f"{name}=={pinned.public if self.public_pins else pinned}", None
        except InvalidVersion:
            return name, (
                f"#system_{name}#: the host's version {version} is not one of PEP 440,"
                " so any version will do"
            )

    def _engine_lines(
        self, engine: str, origin: Origin
    ) -> Iterator[tuple[RequirementLine, str | None]]:
        if origin is Origin.ENGINE:
            raise InvalidRequirement(
                sentence("the packages of an engine can't include those of another")
            )
        named = find_engine(self.engines, engine)
        if named is None:
            known = ", ".join(sorted(each.name for each in self.engines.values()))
            hint = sentence(
                "Known are {known}. A package of this name needs a version, like >=0.", known=known
            )
            raise InvalidRequirement(
                sentence("the catalogue has no engine {engine}", engine=engine), {"hint": hint}
            )
        if named is self.launched:
            yield from self.lines(named.packages, Origin.ENGINE)


def _split(written: str) -> tuple[str, str | None]:
    """The requirement and its marker, without the white space around them."""
    if len(written) > MAX_LINE_LENGTH:
        raise InvalidRequirement(
            sentence("it has {written_count} characters", written_count=len(written)),
            {
                "hint": sentence(
                    "Allowed are at most {max_line_length}.", max_line_length=MAX_LINE_LENGTH
                )
            },
        )
    if not written.replace("\t", " ").isprintable():
        raise InvalidRequirement(
            sentence(
                "it contains a control character, a line break or another that can't be printed"
            ),
            {"hint": sentence("Give one requirement in one line of visible text.")},
        )
    line = written.strip()
    has_url = _BARE_URL.match(line) or _NAMED_URL.match(line)
    requirement, *marker = (_URL_MARKER if has_url else _MARKER).split(line, maxsplit=1)
    if not requirement:
        raise InvalidRequirement(sentence("it is empty"), {"hint": _FORMS})
    return requirement, marker[0].strip() if marker else None


def _plain_line(
    requirement: str, origin: Origin, written: str, *, folders: bool = False
) -> RequirementLine:
    if requirement.startswith("#"):
        raise InvalidRequirement(
            sentence("unknown placeholder"),
            {"hint": sentence("Known are #system_NAME# and #ENGINE_dependencies#.")},
        )
    if requirement.startswith("-"):
        raise InvalidRequirement(
            sentence("it is an option of pip"),
            {
                "hint": sentence(
                    "Indexes and find-links have fields of their own, apart from the packages."
                )
            },
        )
    if _BARE_URL.match(requirement):
        _check_url(requirement, folders=folders)
        name = _name_in_url(requirement)
        return RequirementLine(text=requirement, name=name, origin=origin, written=written)
    if not _NAMED_URL.match(requirement) and _PATH.search(requirement):
        raise InvalidRequirement(
            sentence("it looks like a local path"),
            {
                "hint": sentence(
                    "Archives are given as file:///absolute/path/name-1.0-py3-none-any.whl."
                )
            },
        )
    return _named_line(requirement, origin, written, folders=folders)


def _named_line(
    requirement: str, origin: Origin, written: str, *, folders: bool = False
) -> RequirementLine:
    try:
        parsed = pep508.Requirement(requirement)
    except pep508.InvalidRequirement as error:
        # Its further lines repeat the requirement, credentials included.
        reason = str(error).partition("\n")[0]
        raise InvalidRequirement(
            sentence("it is not PEP 508: {reason}", reason=_redacted(reason)), {"hint": _FORMS}
        ) from None
    if parsed.url is not None:
        _check_url(parsed.url, folders=folders)
    name = canonicalize_name(parsed.name)
    return RequirementLine(text=str(parsed), name=name, origin=origin, written=written)


def _check_url(url: str, *, folders: bool) -> None:
    if wrong := _NOT_IN_URLS.search(url):
        raise InvalidRequirement(
            sentence("its URL contains {wrong}", wrong=ascii(wrong[0])),
            {"hint": sentence("Percent-encode it; a marker follows white space and a semicolon.")},
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidRequirement(
            sentence("its URL is broken"), {"hint": sentence("Check its host.")}
        ) from None
    if parts.scheme not in _SCHEMES:
        raise InvalidRequirement(
            sentence("its URL has the scheme {scheme}", scheme=parts.scheme)
            if parts.scheme
            else sentence("its URL has no scheme"),
            {"hint": sentence("Allowed are {schemes}.", schemes=", ".join(sorted(_SCHEMES)))},
        )
    if not parts.scheme.endswith("file"):
        if not parts.hostname:
            raise InvalidRequirement(sentence("its URL names no host"), {"hint": _FORMS})
    elif parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidRequirement(
            sentence("its file URL is not absolute"),
            {"hint": sentence("Write file:///absolute/path.")},
        )
    elif not folders and _is_of_folder(parts):
        raise InvalidRequirement(
            sentence("its file URL names no archive; a folder has neither a version nor a hash"),
            {
                "hint": sentence(
                    "Allowed are paths that end with {archives}.", archives=", ".join(_ARCHIVES)
                )
            },
        )


def _is_of_folder(parts: SplitResult) -> bool:
    return parts.scheme == "file" and not parts.path.lower().endswith(_ARCHIVES)


def _name_in_url(url: str) -> str | None:
    parts = urlsplit(url)
    if egg := _EGG.search(parts.fragment):
        return canonicalize_name(egg[1])
    if parts.scheme in _VERSION_CONTROL_SCHEMES:
        return None
    file = unquote(parts.path).rpartition("/")[2]
    try:
        return parse_wheel_filename(file)[0]
    except InvalidWheelFilename:
        pass
    try:
        return parse_sdist_filename(file)[0]
    except InvalidSdistFilename:
        return None


def _quoted_requirement(written: str) -> str:
    # What is cut before it is redacted may hold the half of a credential.
    return quoted(_redacted(written), 200) if len(written) <= MAX_LINE_LENGTH else "'...'"


def _redacted(text: str) -> str:
    return _HALF_URL.sub(HIDDEN, redact_text(text))
