"""The packages of environments: where their files are, what brought them, what a view leads to.

Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xinference_venv._util.records import Record, inline
from xinference_venv.inventory.environments import Environment
from xinference_venv.planning.key import EnvKey
from xinference_venv.planning.lock import LockedDistribution
from xinference_venv.planning.provenance import Tree
from xinference_venv.planning.request import LaunchRequest
from xinference_venv.planning.view import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagePlace(Record, name="place of a package"):
    """A directory in which files really are that a model imports through the view of its
    environment; `names` are the entries of the view that lead there, none where a `.pth` file or
    an import hook does.
    """

    place: Place
    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Package(Record, name="package of an environment"):
    """A distribution of an environment; `size_bytes` is what one of its own takes there.

    `places` are where its files really are: none where it is not to be seen, or where it lies in
    the environment itself.
    """

    distribution: LockedDistribution = field(metadata=inline())
    size_bytes: int | None
    places: tuple[PackagePlace, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class UnlockedPackage(Record, name="package outside of a lock"):
    """A distribution that a model sees and the lock of its environment does not name.

    One installed `by_hand` comes before all that is of the lock, and lies in the environment
    itself. Any other is the host's, of which all that fits is shown; `places` are where its files
    really are, as a package's: of an editable one that is its project, too.
    """

    name: str
    version: str
    by_hand: bool
    size_bytes: int | None = None
    places: tuple[PackagePlace, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownTree(Record, name="tree that a view shows"):
    """A package's tree or a joined tree; `names` are the entries of the view that lead there.

    `label` is the package and its version, or the members of a joined tree, which is one for the
    `reasons`. `size_bytes` includes bytecode, of a joined tree it is what its members do not
    have. `shared_with` are the keys of other environments that show the tree.
    """

    place: Place
    path: str
    label: str
    names: tuple[str, ...]
    size_bytes: int | None
    reasons: tuple[str, ...] = ()
    shared_with: tuple[EnvKey, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownHost(Record, name="directory of the host that a view shows"):
    """A site directory of the host; `names` are the entries of the view that lead there."""

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownView(Record, name="view of an environment"):
    """What a view leads to. `path` is the folder that processes import from; `search_path` are
    folders of the host that follow it on the search path. `warnings` say which files and import
    names several packages have.
    """

    path: str
    trees: tuple[ShownTree, ...]
    host: tuple[ShownHost, ...]
    search_path: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentPackages(Record, name="packages of an environment"):
    """An environment with its packages, and its view where it has one; `unlocked` are those that a
    model sees besides, by name.

    `launch` is what its key was last launched with; None when that was not kept, since it held a
    credential or an earlier release made it.
    """

    environment: Environment = field(metadata=inline())
    packages: tuple[Package, ...]
    unlocked: tuple[UnlockedPackage, ...] = ()
    view: ShownView | None = None
    launch: LaunchRequest | None = None

    @property
    def distributions(self) -> tuple[LockedDistribution, ...]:
        """The packages as the lock has them."""
        return tuple(each.distribution for each in self.packages)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedEnvironment(Record, name="explained environment"):
    """An environment: the tree of what is there, and what of the host it does not show."""

    environment: Environment = field(metadata=inline())
    tree: Tree = field(metadata=inline())


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedPackages(Record, name="explained packages"):
    """An environment with its packages, and the tree of what requires what."""

    listed: EnvironmentPackages = field(metadata=inline())
    tree: Tree = field(metadata=inline())
