"""What an environment must prove: that what is compiled against the host's packages works there.

Comes in: the packages that an environment installs, its lock, facts of the host. Comes out: what
has to be imported, and, of an import that failed, which distributions of the host may be why.
The metadata of a wheel does not say which versions its extension modules were built for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

from packaging.utils import canonicalize_name

from xinference_venv._util.records import digest_of
from xinference_venv.planning.host import HostDistribution, HostFacts
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.package import EntryKind, PackageKey, PackageRecord
from xinference_venv.sentences import sentence

_IMPORTED = frozenset({EntryKind.PACKAGE, EntryKind.MODULE, EntryKind.EXTENSION})
# Wheels ship these by mistake, and what they import need not be there.
_STRAY = frozenset({"benchmarks", "docs", "examples", "scripts", "setup", "test", "tests"})
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^'.]+)")
_ABOUT_LIBRARY = re.compile(r"\.so\b|undefined symbol|shared object")
_SHOWN_LIBRARIES = 4
_LIBRARY = re.compile(r"(?P<stem>lib.+?\.so)(?:\.(?P<version>[0-9.]+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportProof:
    """A package to import, its modules, and what of the host it is compiled against.

    Of these it has libraries loaded of the `linked`, and other versions can be installed of the
    `replaceable`; `missing` are libraries that it may load and that nothing visible has.
    """

    package: PackageKey
    modules: tuple[str, ...]
    against: tuple[HostDistribution, ...] = ()
    linked: frozenset[str] = frozenset()
    replaceable: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    def pairs(self, interpreter: str) -> tuple[str, ...]:
        """A digest for each pair of the package and one of the host, for one interpreter.

        What was proved once of all pairs of a package holds wherever they meet again.
        """
        return tuple(
            digest_of(["import", self.package.folder, _identity(each), interpreter])
            for each in self.against
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofFailure:
    """A package that does not work next to the host's; `reason` is one line, `output` is all.

    `release` are the distributions of the host that may be why; it is empty where none can be.
    """

    package: PackageKey
    against: tuple[HostDistribution, ...]
    reason: str
    output: str
    release: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = ", ".join(f"{each.name} {each.version}" for each in self.against)
        name = f"{self.package.name} {self.package.version}"
        if not host:
            return sentence("{name} does not work: {reason}", name=name, reason=self.reason)
        return sentence(
            "{name} does not work next to the host's {host}: {reason}",
            name=name,
            host=host,
            reason=self.reason,
        )


def find_proofs(
    packages: Iterable[PackageRecord],
    lock: EnvLock,
    host: HostFacts,
    *,
    providers: Mapping[str, HostDistribution] = MappingProxyType({}),
    failed: Collection[str] = (),
) -> tuple[ImportProof, ...]:
    """What must be imported: the top-level modules of each compiled package that requires
    compiled distributions which the lock inherits, or has libraries of the host loaded.

    `providers` are the visible distributions of the host by the libraries that they have.
    Packages that `failed` before are imported whatever they require.
    """
    records = tuple(packages)
    installed = {library for each in records for library in each.libraries}
    inherited = _inherited(lock, host)
    proofs = []
    for record in records:
        elsewhere = [each for each in record.linked_libraries if each not in installed]
        linked = {each.name: each for name in elsewhere if (each := providers.get(name))}
        required = {name: inherited[name] for name in record.requires if name in inherited}
        against = required | linked
        modules = _modules_of(record)
        if record.compiled and modules and (against or record.key.name in failed):
            proofs.append(
                ImportProof(
                    package=record.key,
                    modules=modules,
                    against=tuple(against.values()),
                    linked=frozenset(linked),
                    replaceable=frozenset(inherited),
                    missing=tuple(name for name in elsewhere if name not in providers),
                )
            )
    return tuple(proofs)


def libraries_elsewhere(
    packages: Iterable[PackageRecord],
) -> dict[str, tuple[PackageRecord, ...]]:
    """The libraries that extension modules need and no package has, with those that need them."""
    records = tuple(packages)
    provided = {library for each in records for library in each.libraries}
    needed: dict[str, list[PackageRecord]] = {}
    for record in records:
        for library in record.needed_libraries:
            if library not in provided:
                needed.setdefault(library, []).append(record)
    return {library: tuple(found) for library, found in needed.items()}


def find_library_faults(
    needed: Mapping[str, tuple[PackageRecord, ...]],
    libraries: Mapping[HostDistribution, tuple[str, ...]],
) -> tuple[ProofFailure, ...]:
    """The libraries of inherited distributions that are there in another version than needed.

    `libraries` are those of the distributions that are inherited. One that none of them has in
    any version is not judged: it may be the driver's, or optional.
    """
    faults = []
    for library, records in sorted(needed.items()):
        stem = library_stem(library)
        others = [
            (each, name)
            for each, names in libraries.items()
            for name in names
            if library_stem(name) == stem and name != stem
        ]
        if not others or any(name == library for _, name in others):
            continue
        against = tuple(dict.fromkeys(each for each, _ in others))
        there = ", ".join(sorted({name for _, name in others}))
        for record in records:
            faults.append(
                ProofFailure(
                    package=record.key,
                    against=against,
                    reason=sentence(
                        "it needs {library}, there is {there}", library=library, there=there
                    ),
                    output="",
                    release=tuple(each.name for each in against),
                )
            )
    return tuple(faults)


def find_mixtures(
    packages: Mapping[PackageRecord, Mapping[str, str]],
    inherited: Mapping[HostDistribution, Mapping[str, str]],
) -> tuple[ProofFailure, ...]:
    """The inherited distributions of which an installed package has some shared objects with other
    contents, and not all that they have below the same name: what is left of one build would be
    loaded next to what is of another.

    Those that installers would put before the package, whose files are then seen in any case, are
    none; see `install_order`. Both have the digest of each shared object, by its path; it is empty
    where that is not known.
    """
    failures = []
    for (distribution, theirs), (package, ours) in product(inherited.items(), packages.items()):
        if distribution.name > package.key.name or distribution.name in package.requires:
            continue
        replaced = [
            path for path, digest in theirs.items() if digest and ours.get(path, digest) != digest
        ]
        tops = {path.partition("/")[0] for path in replaced}
        left = theirs.keys() - ours.keys()
        if any(path.partition("/")[0] in tops for path in left):
            reason = sentence("it has another {path}", path=min(replaced))
            failures.append(_in_the_way(package, distribution, reason))
    return tuple(failures)


def find_cut_off(
    packages: Mapping[PackageRecord, Collection[str]],
    inherited: Mapping[HostDistribution, Collection[str]],
) -> tuple[ProofFailure, ...]:
    """The inherited distributions with a subpackage in a folder that is a regular package of an
    installed one, which lies before them on the search path: Python looks for it nowhere else.

    Both have the folders of their regular packages, by path.
    """
    failures = []
    for (distribution, theirs), (package, ours) in product(inherited.items(), packages.items()):
        cut = [path for path in theirs if path not in ours and path.rpartition("/")[0] in ours]
        if cut:
            reason = sentence("it hides {path}", path=min(cut))
            failures.append(_in_the_way(package, distribution, reason))
    return tuple(failures)


def _in_the_way(
    package: PackageRecord, distribution: HostDistribution, reason: str
) -> ProofFailure:
    return ProofFailure(
        package=package.key,
        against=(distribution,),
        reason=reason,
        output="",
        release=(distribution.name,),
    )


def explain_failure(proof: ImportProof, output: str, *, of_system: bool) -> ProofFailure:
    """What an import that failed says, and which of the host's distributions may be why.

    Where it is about a library, those whose libraries are loaded, else those that the traceback
    names, else all that the package requires. None where a module is missing that none of them
    has, or with `of_system` a library that every system has.
    """
    lines = [line for line in output.splitlines() if line.strip()] or ["it ended without output"]
    reason = lines[-1].strip()
    tops = {each.name: _import_names(each) for each in proof.against}
    words = set(re.findall(r"\w+", output))
    named = [name for name, names in tops.items() if names & words]
    if (module := _MISSING_MODULE.search(reason)) is not None:
        release = [name for name, names in tops.items() if module[1] in names]
    elif of_system:
        release = []
    elif _ABOUT_LIBRARY.search(reason):
        release = sorted(proof.linked) or named or list(tops)
        if proof.missing:
            reason += f" (no package has {', '.join(proof.missing[:_SHOWN_LIBRARIES])})"
    else:
        release = named or list(tops)
    return ProofFailure(
        package=proof.package,
        against=proof.against,
        reason=reason,
        output=output,
        release=tuple(name for name in release if name in proof.replaceable),
    )


def inherited_compiled(lock: EnvLock, host: HostFacts) -> tuple[HostDistribution, ...]:
    """The compiled distributions that a lock inherits from the host."""
    return tuple(_inherited(lock, host).values())


def _inherited(lock: EnvLock, host: HostFacts) -> dict[str, HostDistribution]:
    names = (canonicalize_name(each.name) for each in lock.with_role(Role.INHERITED))
    found = (host.by_name.get(name) for name in names)
    return {each.name: each for each in found if each is not None and each.compiled}


def _modules_of(record: PackageRecord) -> tuple[str, ...]:
    names = (each.import_name for each in record.top_level if each.kind in _IMPORTED)
    found = [name for name in names if name is not None and name not in _STRAY]
    # What is private is imported by what is not.
    return tuple(dict.fromkeys(name for name in found if not name.startswith("_"))) or tuple(found)


def _import_names(each: HostDistribution) -> set[str]:
    tops = {entry.partition(".")[0] for entry in each.entries if entry != each.metadata}
    return {name for name in tops if name.isidentifier()} or {each.name.replace("-", "_")}


def _identity(each: HostDistribution) -> list[object]:
    return [each.name, each.version, each.location, each.metadata, each.inode]


def library_stem(library: str) -> str:
    """The name of a library without the version that its SONAME has behind ``.so``."""
    found = _LIBRARY.fullmatch(library)
    return found["stem"] if found else library
