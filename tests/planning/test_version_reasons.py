"""Why each distribution has the version that it has, decided over facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tests.fakes import distribution, host, wheel_package
from xinference_venv.planning.host import HostFacts
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution
from xinference_venv.planning.version_reasons import version_reasons
from xinference_venv.sentences import Sentence

NO_HOST = host()


def resolution(
    installed: Mapping[str, str],
    requires: Mapping[str, Sequence[tuple[str, str]]],
    inherited: Mapping[str, str] | None = None,
    days: Mapping[str, int] | None = None,
) -> Resolution:
    began = datetime(2025, 1, 1, tzinfo=UTC)
    return Resolution(
        packages=tuple(wheel_package(name, version) for name, version in installed.items()),
        inherited=inherited or {},
        uploaded={name: began + timedelta(days=day) for name, day in (days or {}).items()},
        requires={
            name: tuple(Dependency(name=other, ranges=ranges) for other, ranges in each)
            for name, each in requires.items()
        },
    )


def reasons(
    found: Resolution,
    *,
    over: HostFacts = NO_HOST,
    fresh: Resolution | None = None,
    unusable: Mapping[str, str] | None = None,
) -> dict[str, str]:
    return version_reasons(found, fresh=fresh, host=over, unusable=unusable or {})


def test_what_nothing_holds_back_is_the_newest_that_fits() -> None:
    requires = {REQUEST: [("app", ">=1")], "app": [("lib", "*"), ("old", ">=1, <2")]}
    found = resolution({"app": "1.0", "lib": "2.0", "old": "1.9"}, requires)
    assert reasons(found) == {
        "app": "the newest that fits",
        "lib": "the newest that fits",
        "old": "the newest that fits, since app requires old>=1, <2",
    }
    pinned = resolution({"app": "1.0"}, {REQUEST: [("app", "==1.0")]})
    assert reasons(pinned) == {"app": "the newest that fits, since the request requires app==1.0"}


def test_what_is_kept_says_what_there_would_be_without_the_host() -> None:
    over = host(distribution("lib", "1.0"), distribution("same", "1.0"))
    found = resolution({"app": "1.0"}, {}, {"lib": "1.0", "same": "1.0"})
    fresh = resolution({"app": "1.0", "lib": "2.0", "same": "1.0"}, {})
    told = reasons(found, over=over, fresh=fresh)
    assert told["lib"] == "kept from the host; without the host there would be 2.0"
    assert told["same"] == "kept from the host"
    unknown = reasons(found, over=over)
    assert unknown["lib"] == unknown["same"] == "kept from the host"


def test_what_gave_way_says_to_whom() -> None:
    over = host(distribution("lib", "1.0"), distribution("on-lib", "1.0", "lib<2"))
    requires = {"app": [("lib", ">=2"), ("on-lib", "*")]}
    found = resolution({"app": "1.0", "lib": "2.0", "on-lib": "3.0"}, requires)
    told = reasons(found, over=over)
    assert told["lib"] == "the host's 1.0 gives way, since app requires lib>=2"
    assert told["on-lib"] == (
        "the host's 1.0 gives way, since it requires lib<2, the environment has lib 2.0"
    )
    free = resolution({"app": "1.0", "lib": "2.0"}, {"app": [("lib", "*")]})
    assert reasons(free, over=host(distribution("lib", "1.0")))["lib"] == (
        "the host's 1.0 gives way, since what is asked for would be older with it"
    )


def test_all_that_do_not_allow_the_hosts_version_are_named() -> None:
    requires = {"app": [("lib", ">=2")], "bulb": [("lib", ">=1.5")], "lamp": [("lib", ">=1")]}
    found = resolution({"app": "1.0", "bulb": "1.0", "lamp": "1.0", "lib": "2.0"}, requires)
    told = reasons(found, over=host(distribution("lib", "1.0")))
    assert told["lib"] == (
        "the host's 1.0 gives way, since app requires lib>=2, bulb requires lib>=1.5"
    )


def test_what_is_reinstalled_in_the_same_version_says_why() -> None:
    over = host(
        distribution("numpy", "2.4", compiled=True),
        distribution("scipy", "1.17", "numpy", compiled=True),
        distribution("lib", "1.0"),
        distribution("built", "1.0"),
    )
    found = resolution({"numpy": "2.2", "scipy": "1.17", "lib": "1.0", "built": "1.0"}, {})
    told = reasons(found, over=over, unusable={"lib": "it has no list of its files"})
    assert told["scipy"] == (
        "the host has the same, which can't serve, since it was compiled together with numpy 2.4,"
        " the environment has 2.2"
    )
    assert told["lib"].endswith("since it has no list of its files")
    assert told["built"].endswith("since it is another build")


def test_what_is_older_than_without_the_host_says_by_how_much_and_for_what() -> None:
    over = host(distribution("lib", "1.0"), distribution("fits", "1.0"))
    found = resolution({"app": "1.0"}, {}, {"lib": "1.0", "fits": "1.0"}, {"app": 0})
    needs = {"app": [("lib", ">=2"), ("fits", ">=1"), ("new", ">=3")]}
    fresh = resolution({"app": "1.1", "lib": "2.0", "new": "3.0"}, needs, {}, {"app": 40})
    assert reasons(found, over=over, fresh=fresh)["app"] == (
        "there is 1.1, 40 days newer, which does not fit the host's lib 1.0"
    )
    undated = resolution({"app": "1.1"}, {})
    assert reasons(found, over=over, fresh=undated)["app"] == "there is 1.1"


def test_every_reason_can_be_translated_with_all_that_is_in_it() -> None:
    """What a sentence holds is a name, a version or a sentence again."""
    over = host(
        distribution("lib", "1.0"), distribution("on-lib", "1.0", "lib<2"), distribution("c", "1")
    )
    requires = {REQUEST: [("app", "==1.0")], "app": [("lib", ">=2"), ("on-lib", "*")]}
    found = resolution({"app": "1.0", "lib": "2.0", "on-lib": "3.0"}, requires, {"c": "1"})
    fresh = resolution({"app": "1.0", "c": "2"}, {})
    for text in reasons(found, over=over, fresh=fresh).values():
        assert isinstance(text, Sentence)
        whys = [value for name, value in text.values.items() if name == "why"]
        assert all(isinstance(each, Sentence) for each in whys)
