"""What the facts of a host mean for launches there.

Comes in: facts that the callers found out. Comes out: a `Check` for each, with a
verdict, what was found in words, and what to do about it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xinference_venv._util.humanize import counted, duration_text, quoted, size_text
from xinference_venv.diagnosis.checks import CLOCK_SECONDS, Check, failed, ok, some, warning
from xinference_venv.planning.host import Accelerator, HostDistribution, HostFacts, Need
from xinference_venv.sentences import joined, sentence
from xinference_venv.store.drop_in import EXTENSION, EXTENSIONS_VARIABLE, RunningXinference
from xinference_venv.store.file_system import FileSystem
from xinference_venv.store.host.compiled import Uncompiled
from xinference_venv.store.host_files import NO_INODES
from xinference_venv.uv.program import version_in

LITTLE_BYTES = 10 * 1024**3
"""With less free space than this a launch may fail."""
_NO_BYTES = 1024**3
_FEW_INODES = 100_000
_OPEN_FILES = 1024
# Of each byte of source, measured over pandas, scipy and others.
_COMPILING_SECONDS = 0.15e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbedHome:
    """What was tried at a place: `place` is the folder in question, or the nearest one above it
    that is there. `writable` says why nothing can be made there, None where something can; then
    `tried` is what the file system can do, and `cache` why files of uv's cache can't be linked
    from there. `locks_of_one_host` is what says that other hosts don't see the locks there.
    """

    place: str
    writable: str | None
    tried: FileSystem | None = None
    cache: str | None = None
    locks_of_one_host: str | None = None


_ELSEWHERE = sentence("put XINFERENCE_HOME on another file system, best a local one")


def file_system_checks(found: ProbedHome, cache: str) -> list[Check]:
    """Whether the file system of a home can hold environments, and shares files with uv's cache."""
    if found.tried is None:
        return [
            failed(
                "home",
                sentence(
                    "nothing can be made in {place}: {writable}",
                    place=found.place,
                    writable=found.writable,
                ),
                sentence("free some space; `xinference-venv gc` deletes what is not needed")
                if found.writable == os.strerror(errno.ENOSPC)
                else sentence(
                    "let this user write there, or name another folder in XINFERENCE_HOME"
                ),
            )
        ]
    faults = found.tried.faults
    checks = [
        failed(
            "home",
            sentence("{place}: {faults}", place=found.place, faults=joined(faults)),
            _ELSEWHERE,
        )
        if faults
        else ok("home", sentence("locks, links and programs work at {place}", place=found.place)),
        ok("file system", joined(_ways(found.tried))),
    ]
    if found.locks_of_one_host is not None:
        checks.append(
            warning(
                "locks",
                sentence(
                    "other hosts don't see the locks of {place} ({mount}): they may replace or"
                    " remove what this one uses",
                    place=found.place,
                    mount=found.locks_of_one_host,
                ),
                sentence(
                    "let each host have a home of its own, or share one by NFS from version 4 on"
                    " (local_lock=none)"
                ),
            )
        )
    if found.tried.ignores_case:
        checks.append(
            warning(
                "case",
                sentence(
                    "{place} does not tell upper case from lower case in names", place=found.place
                ),
                sentence(
                    "packages with files that differ only in case break: {elsewhere}",
                    elsewhere=_ELSEWHERE,
                ),
            )
        )
    checks.append(
        ok("uv cache", sentence("files of {cache} can be linked to environments", cache=cache))
        if found.cache is None
        else warning(
            "uv cache",
            sentence(
                "files of {cache} can't be linked to environments, so each gets copies: {folder}",
                cache=cache,
                folder=found.cache,
            ),
            sentence("let UV_CACHE_DIR name a folder on the file system of the home, or unset it"),
        )
    )
    return checks


def _ways(tried: FileSystem) -> Iterator[str]:
    """How files and folders are moved, shared and deleted on a file system."""
    yield tried.kind or sentence("an unknown file system")
    yield (
        sentence("folders are renamed; those of image layers are copied, or deleted in place")
        if tried.has_layers
        else sentence("folders are renamed")
    )
    if tried.exchange is not None:
        yield sentence(
            "a folder is exchanged by three renames ({exchange})", exchange=tried.exchange
        )
    if tried.hard_links is None:
        yield sentence("files are shared by hard links")
    elif tried.reflinks is None:
        yield sentence("files share blocks ({hard_links})", hard_links=tried.hard_links)
    else:
        yield sentence(
            "files are copied, and links to large ones made ({hard_links})",
            hard_links=tried.hard_links,
        )
    if tried.keeps_deleted:
        yield sentence(
            "files that are deleted while open stay until they are closed, then in the trash"
        )
    if not tried.keeps_modes:
        yield sentence("permissions are not kept, so files are not protected from being changed")


def inodes_check(place: str, free: int | None) -> Check:
    """Of how many more files the file system of a place can hold; None is no limit."""
    if free is None:
        return ok("free inodes", sentence("no limit at {place}", place=place))
    found = sentence("{free} more files fit at {place}", free=free, place=place)
    hint = sentence(
        "delete some, or put XINFERENCE_HOME on a file system with more inodes (`df -i`)"
    )
    if free < NO_INODES:
        return failed("free inodes", found, hint)
    if free < _FEW_INODES:
        return warning(
            "free inodes",
            sentence(
                "{found}: an environment with a torch of its own takes 20,000 or more", found=found
            ),
            hint,
        )
    return ok("free inodes", found)


def quota_check(place: str, left: int | None) -> Check:
    """Of what a quota leaves at a place; None where it leaves more than environments take."""
    if left is None:
        return ok("quota", sentence("no quota was found at {place}", place=place))
    found = sentence(
        "a quota leaves about {left} at {place}, whatever else is free",
        left=size_text(left),
        place=place,
    )
    hint = sentence("have it raised, or put XINFERENCE_HOME elsewhere")
    return (failed if left < _NO_BYTES else warning)("quota", found, hint)


def uv_check(path: str, output: str, wanted: SpecifierSet) -> Check:
    """Of a uv at `path` that says of itself ``uv 0.13.1 (...)``."""
    version = version_in(output)
    if version is None:
        return failed(
            "uv",
            sentence(
                "{path} is not uv: asked for its version, it printed {output}",
                path=path,
                output=quoted(output),
            ),
            sentence("correct XOSCAR_UV_PATH, or unset it to use the uv package's own"),
        )
    found = sentence("uv {version} at {path}", version=version, path=path)
    if not wanted.contains(version, prereleases=True):
        return failed(
            "uv",
            sentence("{found}, but {wanted} is needed", found=found, wanted=wanted),
            sentence("install a newer uv, or unset XOSCAR_UV_PATH"),
        )
    return ok("uv", found)


def python_check(found: Collection[str], *, downloads: bool) -> Check:
    """Of the versions of Python that uv finds; `downloads`: uv may fetch another one."""
    versions = ", ".join(sorted(found, key=Version)) or sentence("none")
    if not found and not downloads:
        return warning(
            "pythons",
            sentence("uv finds no interpreter on this host"),
            sentence(
                "install one, or let uv download it with"
                " XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS=1; models that ask for no"
                " version use the host's interpreter"
            ),
        )
    return ok(
        "pythons",
        (
            sentence("{versions}; uv may download others", versions=versions)
            if downloads
            else versions
        ),
    )


def _conflict(each: HostDistribution, need: Need, found: str | None) -> str:
    if found is None:
        return sentence(
            "{name} {version} requires {requirement}, which lacks",
            name=each.name,
            version=each.version,
            requirement=need.requirement,
        )
    return sentence(
        "{name} {version} requires {requirement}, found is {found}",
        name=each.name,
        version=each.version,
        requirement=need.requirement,
        found=found,
    )


def conflict_checks(host: HostFacts) -> list[Check]:
    """Whether the host's own packages fit together, and whether all could be read."""
    conflicts = [
        _conflict(each, need, host.versions.get(need.name))
        for each in host.distributions
        for need in host.needs[each.name]
        if need.name not in host.versions or not need.allows(host.versions[need.name])
    ]
    total = counted(len(host.distributions), "package")
    checks = [
        warning(
            "host packages",
            sentence(
                "{conflicts} among {total}: {listed}",
                conflicts=counted(len(conflicts), "contradiction"),
                total=total,
                listed=some(conflicts),
            ),
            sentence(
                "what is broken on the host is broken in models that inherit it: fix it"
                " there (`{executable} -m pip check`), or launch with --inherit exact",
                executable=host.interpreter.executable,
            ),
        )
        if conflicts
        else ok("host packages", sentence("{total}, which fit together", total=total))
    ]
    if host.skipped:
        checks.append(
            warning(
                "host metadata",
                sentence(
                    "{skipped} can't be read: {listed}",
                    skipped=counted(len(host.skipped), "thing"),
                    listed=some(host.skipped),
                ),
                sentence("what can't be read is not inherited: reinstall these packages"),
            )
        )
    return checks


def accelerator_check(found: Accelerator, unknown: Sequence[str]) -> Check:
    """Which accelerators launches count on, or why that is `unknown`."""
    if unknown:
        return warning(
            "accelerators",
            joined(unknown),
            sentence(
                "models are launched as on a host without GPUs, with builds of torch for processors"
                " alone: repair the driver, then start the worker again"
            ),
        )
    names = [
        *([f"CUDA {found.cuda_version}, {found.cuda_arch}"] if found.has_cuda else []),
        *(["NPU"] if found.has_npu else []),
    ]
    return ok("accelerators", ", ".join(names) or sentence("none"))


def bytecode_check(host: HostFacts, found: Sequence[Uncompiled], *, kept: bool) -> Check:
    """Whether what models inherit is compiled; `kept`: what a start compiles can be kept.

    `found` are the packages without bytecode, the largest first.
    """
    if not found:
        return ok("host bytecode", sentence("the packages of the host are compiled"))
    seconds = sum(each.size_bytes for each in found) * _COMPILING_SECONDS
    names = some(
        [
            sentence("{name} ({sources})", name=each.name, sources=counted(each.sources, "source"))
            for each in found
        ]
    )
    again = (
        sentence("the first start of a model compiles what it imports of them")
        if kept
        else sentence(
            "every start of a model compiles what it imports of them, since that can't be kept"
        )
    )
    where = host.interpreter.executable
    return warning(
        "host bytecode",
        sentence(
            "{found} of {distributions_count} without bytecode: {names}; {again}, all"
            " of it in about {seconds} of processor time",
            found=counted(len(found), "package"),
            distributions_count=len(host.distributions),
            names=names,
            again=again,
            seconds=duration_text(seconds),
        ),
        sentence(
            "compile them where the image is built: {where} -m compileall -q"
            " {search_path}, or let uv do it by UV_COMPILE_BYTECODE=1",
            where=where,
            search_path=" ".join(host.interpreter.search_path[-1:]),
        ),
    )


def xoscar_check(host: HostFacts, wanted: SpecifierSet) -> Check:
    """Whether model processes, which inherit the host's xoscar, have one that serves."""
    found = host.versions.get("xoscar")
    where = host.interpreter.executable
    if found is None:
        return failed(
            "xoscar",
            sentence(
                "the packages of {where} have no xoscar, which every model process needs",
                where=where,
            ),
            sentence(
                "install it: {where} -m pip install 'xoscar{wanted}'", where=where, wanted=wanted
            ),
        )
    if not wanted.contains(found, prereleases=True):
        return failed(
            "xoscar",
            sentence("xoscar {found}, but {wanted} is needed", found=found, wanted=wanted),
            sentence("install a newer one"),
        )
    return ok("xoscar", sentence("xoscar {found}", found=found))


def space_check(name: str, path: str, free: int) -> Check:
    """Of the bytes that are free at a place for environments."""
    found = sentence("{free} free at {path}", free=size_text(free), path=path)
    hint = sentence("free some space; `xinference-venv gc` deletes what is not needed")
    if free < _NO_BYTES:
        return failed(name, found, hint)
    if free < LITTLE_BYTES:
        return warning(
            name,
            sentence(
                "{found}: an environment with a torch of its own takes 5 GiB or more", found=found
            ),
            hint,
        )
    return ok(name, found)


def clock_check(offsets: Mapping[str, float]) -> Check:
    """Of how many seconds this host's clock is ahead of the `Date` of each host that answered.

    One index may be wrong by itself: what most say counts.
    """
    if not offsets:
        return ok("clock", sentence("not compared: no index answered with the time"))
    from statistics import median

    ahead = median(offsets.values())
    if abs(ahead) <= CLOCK_SECONDS:
        return ok(
            "clock", sentence("within a minute of {offsets}", offsets=", ".join(sorted(offsets)))
        )
    time, others = duration_text(abs(ahead)), ", ".join(sorted(offsets))
    return warning(
        "clock",
        sentence("{time} ahead of {others}", time=time, others=others)
        if ahead > 0
        else sentence("{time} behind {others}", time=time, others=others),
        sentence("set it (NTP): certificates may not be valid yet or any more, ages are wrong"),
    )


def open_files_check(limit: int) -> Check:
    """Of how many files a process may have open; -1 is no limit."""
    if 0 <= limit < _OPEN_FILES:
        return warning(
            "open files",
            sentence("a process may open {limit} files", limit=limit),
            sentence(
                "raise it: ulimit -n {open_files} or more, LimitNOFILE= of systemd",
                open_files=_OPEN_FILES,
            ),
        )
    return ok(
        "open files",
        (
            sentence("no limit")
            if limit < 0
            else sentence("a process may open {limit}", limit=limit)
        ),
    )


def file_names_check(encoding: str) -> Check:
    """Of how this process names files, as `sys.getfilesystemencoding` says it."""
    found = sentence("files are named in {encoding}", encoding=encoding)
    if encoding != "utf-8":
        return warning(
            "file names",
            sentence(
                "{found}: models whose names have other letters can't be launched", found=found
            ),
            sentence("run it in a locale of UTF-8 (LC_ALL=C.UTF-8), or with PYTHONUTF8=1"),
        )
    return ok("file names", found)


def user_check(uid: int, name: str | None, home: str, *, usable: bool) -> Check:
    """Of who runs this; `name` is None for a user that the list of users does not have."""
    who = sentence(
        "user {uid}, {name}",
        uid=uid,
        name=name or sentence("without an entry in the list of users"),
    )
    if usable:
        return ok("user", sentence("{who}; home directory {home}", who=who, home=home))
    return ok(
        "user",
        sentence(
            "{who}; without a home directory ({home}): all is kept in XINFERENCE_HOME",
            who=who,
            home=home,
        ),
    )


def temporary_check(folder: str, *, usual: str | None) -> Check:
    """Of where temporary files go; `usual` is None where no usual folder may be written to."""
    if usual is not None:
        return ok("temporary files", folder)
    return warning(
        "temporary files",
        sentence(
            "neither TMPDIR nor /tmp is a folder that may be written to: uv and"
            " builds use {folder}",
            folder=folder,
        ),
        sentence(
            "mount a tmpfs at /tmp, or let TMPDIR name a folder: models may need one themselves"
        ),
    )


def sockets_check(folder: str, *, named: bool, fault: str | None) -> Check:
    """Of the folder in which xoscar keeps the sockets of this host's processes.

    Unless the folder is `named` (by ``XOSCAR_DIR``), only serving clusters that embed us use it,
    and our own commands a private one. `fault` is why it can't be used.
    """
    if fault is None:
        return ok("sockets", folder)
    hint = sentence(
        "name a short folder of your own in XOSCAR_DIR, for every process of the cluster"
    )
    verdict = failed if named else warning
    return verdict("sockets", joined((folder, fault), ": "), hint)


def shared_memory_check(fault: str | None, hint: str) -> Check:
    """Of the shared memory through which model processes are started."""
    if fault is None:
        return ok("shared memory", sentence("model processes can share memory"))
    return failed("shared memory", fault, hint)


def owner_check(path: str, *, root: bool, open_places: Sequence[str]) -> Check:
    """Of who else may change environments: `open_places` are folders that anybody may write to.

    That of the environments, `path`, may be among them for what is in it.
    """
    if not open_places:
        return ok("owner", sentence("only this user may write to {path}", path=path))
    found = sentence(
        "anybody on this host may write to {open_places}", open_places=", ".join(open_places)
    )
    above = [each for each in open_places if each != path]
    steps = [sentence("chmod o-w {open_places}", open_places=" ".join(above))] if above else []
    if path in open_places:
        steps.append(sentence("chmod -R o-w {path}", path=path))
    hint = joined(steps)
    if root:
        return failed(
            "owner",
            sentence("{found}, and models run as root: so anybody may become root", found=found),
            hint,
        )
    return warning("owner", sentence("{found}, and change what models run", found=found), hint)


def environments_check(count: int, broken: Mapping[str, str]) -> Check:
    """Of the environments of a store, by a glance; `broken` says why by what each is called."""
    if not broken:
        return ok(
            "environments",
            sentence("{count}, none found broken", count=counted(count, "environment")),
        )
    reasons = some([joined((name, why), ": ") for name, why in sorted(broken.items())])
    return warning(
        "environments",
        sentence(
            "{broken_count} of {count} broken: {reasons}",
            broken_count=len(broken),
            count=counted(count, "environment"),
            reasons=reasons,
        ),
        sentence("launch the models again, or xinference-venv verify --repair"),
    )


def changed_views_check(changed: Mapping[str, Sequence[str]]) -> Check:
    """Of what environments inherit; `changed` names by environment what the host has otherwise
    since that was made.
    """
    if not changed:
        return ok(
            "inherited packages",
            sentence("no environment inherits a package that has changed since"),
        )
    named = [f"{key}: {', '.join(names)}" for key, names in sorted(changed.items())]
    return warning(
        "inherited packages",
        sentence(
            "{changed} made over packages that have changed on the host since: {named}",
            changed=counted(len(changed), "environment"),
            named=some(named),
        ),
        sentence(
            "new processes see the host as it is now, which may not fit: launch the models again"
        ),
    )


def xinference_check(running: Sequence[RunningXinference]) -> Check:
    """Of the Xinference that runs here: whether its environments are ours."""
    if not running:
        return ok("xinference", sentence("no Xinference runs here"))
    named = [
        sentence(
            "{command} (process {pid}) has the drop-in {on_or_off}",
            command=each.command,
            pid=each.pid,
            on_or_off=sentence("on") if each.is_on else sentence("off"),
        )
        for each in running
    ]
    if all(each.is_on for each in running):
        return ok("xinference", some(named))
    return warning(
        "xinference",
        some(named),
        sentence(
            "start it with `python -m xinference_venv.xinference` in front of the"
            " command, or with {extensions_variable}={extension}, on every host of"
            " the cluster",
            extensions_variable=EXTENSIONS_VARIABLE,
            extension=EXTENSION,
        ),
    )


def service_check(units: Mapping[str, bool]) -> Check:
    """Of the units by which systemd starts Xinference, each with whether the drop-in is on."""
    if not units:
        return ok("xinference service", sentence("no unit of systemd starts Xinference"))
    off = [unit for unit, is_on in units.items() if not is_on]
    if not off:
        return ok(
            "xinference service", sentence("{units} has the drop-in on", units=some(list(units)))
        )
    return warning(
        "xinference service",
        sentence(
            "{off} starts Xinference without the drop-in: `xinference service"
            " install` writes no variables into it",
            off=some(off),
        ),
        sentence(
            "run `systemctl edit xinference`, with --user for a unit of a user, and"
            ' add "[Service]" and "Environment={extensions_variable}={extension}"',
            extensions_variable=EXTENSIONS_VARIABLE,
            extension=EXTENSION,
        ),
    )


def skipped_check(skipped: Sequence[str]) -> Check:
    """Of what of the store could not be read, judged or deleted, in words."""
    if not skipped:
        return ok("store", sentence("all of it can be read"))
    return warning(
        "store",
        sentence(
            "{skipped} skipped: {listed}",
            skipped=counted(len(skipped), "item"),
            listed=some(skipped),
        ),
        sentence(
            "all else works; give these to this user (chown), take an immutable flag"
            " away (chattr -i), or delete them by hand"
        ),
    )


def leases_check(count: int, unjudged: Sequence[str]) -> Check:
    """Of the leases of a store; of the `unjudged` it is unknown here whether the holder lives."""
    if not unjudged:
        return ok(
            "leases", sentence("{count}, all of living processes", count=counted(count, "lease"))
        )
    return warning(
        "leases",
        sentence(
            "of {unjudged_count} of {count} it is unknown whether the holder lives: {unjudged}",
            unjudged_count=len(unjudged),
            count=counted(count, "lease"),
            unjudged=some(unjudged),
        ),
        sentence(
            "they keep their environments; `xinference-venv leases` lists them, `release` ends them"
        ),
    )


def locks_check(held: Sequence[str], stopped: Sequence[str]) -> Check:
    """Of the locks between processes: who holds one, and which of these holders are stopped."""
    if not stopped:
        return ok("held locks", (some(held) if held else sentence("none")))
    return warning(
        "held locks",
        sentence("stopped processes block others: {stopped}", stopped=some(stopped)),
        sentence("resume them (kill -CONT PID), or end them"),
    )
