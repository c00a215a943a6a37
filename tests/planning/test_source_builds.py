"""What is built from source for a lock, without uv: choices, warnings, entries, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import SHA256, lock, locked, through_json, wheel_package
from xinference_venv.errors import InvalidRecord
from xinference_venv.planning.lock import EnvLock, Role
from xinference_venv.planning.pylock import REQUEST, Dependency, Resolution
from xinference_venv.planning.source_builds import (
    BuiltWheel,
    avoidable_sources,
    build_digest,
    built_hashes,
    is_source,
    older_in,
    origins_of,
    serves_instead,
    source_warnings,
    sources_by_choice,
    with_built,
    with_places,
    without_sources,
)

OTHER = "0" * 64
COMMIT = "4a68395aff8243dd9bf898d929c9c5adba9fda71"
SDIST: dict[str, Any] = {
    "name": "deep-speed",
    "version": "0.19.8",
    "sdist": {"url": "https://files.example/deep_speed-0.19.8.tar.gz", "hashes": {"sha256": OTHER}},
}
VCS: dict[str, Any] = {
    "name": "tool",
    "vcs": {"type": "git", "url": "https://git.example/tool", "commit-id": COMMIT},
}
WHEEL = BuiltWheel(
    file_name="deep_speed-0.19.8-cp311-cp311-linux_x86_64.whl", sha256="1" * 64, size=7
)


def archive(url: str) -> dict[str, Any]:
    return {"name": "direct", "archive": {"url": url, "hashes": {"sha256": SHA256}}}


def resolution(*packages: dict[str, Any], **inherited: str) -> Resolution:
    return Resolution(packages=packages, inherited=inherited)


def built_lock() -> EnvLock:
    return with_built(lock(SDIST, wheel_package("lib")), [WHEEL])


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (SDIST, True),
        (VCS, True),
        ({**SDIST, "wheels": wheel_package("deep-speed")["wheels"]}, False),
        (wheel_package("lib"), False),
        (archive("https://files.example/direct-1.0.tar.gz"), True),
        (archive("https://files.example/direct-1.0-py3-none-any.whl?sig=1"), False),
        ({"name": "odd", "directory": {"path": "."}}, False),
    ],
)
def test_a_source_is_what_no_wheel_serves(package: dict[str, Any], expected: bool) -> None:
    assert is_source(package) is expected


def test_a_source_is_chosen_from_an_index_or_asked_for_by_its_url() -> None:
    direct = archive("https://files.example/direct-1.0.tar.gz")
    found = resolution(SDIST, VCS, wheel_package("lib"), direct, numpy="2.0")
    assert sources_by_choice(found) == ["deep-speed"]


def test_older_is_recognized_by_version_wherever_it_comes_from() -> None:
    wanted = resolution(SDIST, wheel_package("lib", "1.10"), VCS, numpy="2.0", only="1")
    other = resolution(
        wheel_package("deep-speed", "0.3.1.dev5"),
        wheel_package("lib", "1.9"),
        wheel_package("numpy", "2.0.0"),
        wheel_package("new", "0.1"),
        tool="3.0",
    )
    assert older_in(other, than=wanted) == {"deep-speed": "0.3.1.dev5", "lib": "1.9"}
    assert older_in(wanted, than=other) == {}
    assert older_in(wanted, than=wanted) == {}


def test_wheels_serve_instead_where_nothing_is_lost_by_it() -> None:
    found = resolution(SDIST, wheel_package("app", "2.0"), wheel_package("parent", "2.0"))

    def serves(*wheels: tuple[str, str]) -> bool:
        other = resolution(*(wheel_package(name, version) for name, version in wheels))
        return serves_instead(other, found, asked=["app"])

    same, parent = ("app", "2.0"), ("parent", "2.0")
    assert serves(("deep-speed", "0.19.8"), same, parent)
    assert serves(("deep-speed", "1.0"), same, ("parent", "1.0"))
    assert serves(same, parent)
    assert not serves(("deep-speed", "0.3.1"), same, parent)
    assert not serves(("deep-speed", "1.0"), ("app", "1.0"), parent)
    assert not serves(same, ("parent", "1.0"))


def test_the_warning_says_why_each_is_built() -> None:
    found = resolution(SDIST, wheel_package("app", "2.0"))
    assert source_warnings(found) == (
        "deep-speed 0.19.8 is built from source: no index that is asked has a wheel of this"
        " version that fits",
    )
    assert source_warnings(resolution(VCS, wheel_package("app"))) == (
        f"tool is built from source: it is asked for as https://git.example/tool@{COMMIT}",
    )
    local = {"name": "direct", "archive": {"path": "/srv/direct-1.tar.gz"}}
    direct = archive("https://files.example/direct-1.tar.gz")
    assert source_warnings(resolution(local, direct)) == (
        "direct is built from source: it is asked for as /srv/direct-1.tar.gz",
        "direct is built from source: it is asked for as https://files.example/direct-1.tar.gz",
    )
    assert source_warnings(resolution(wheel_package("app"))) == ()


def test_a_source_can_be_avoided_only_where_something_movable_holds_it_back() -> None:
    def avoidable(requirer: str, ranges: str, *asked: str) -> set[str]:
        held = {requirer: (Dependency(name="deep-speed", ranges=ranges),)}
        packages = (SDIST, wheel_package("app", "2.0"))
        found = Resolution(packages=packages, inherited={"ours": "1.0"}, requires=held)
        return avoidable_sources(found, asked=asked)

    assert avoidable("app", ">=0.1, <1") == {"deep-speed"}
    assert avoidable("app", "==0.19.8") == {"deep-speed"}
    assert avoidable("app", ">=0.1") == set()
    assert avoidable("app", "<1", "app") == set()
    assert avoidable("ours", "<1") == set()
    assert avoidable(REQUEST, "<1") == set()


def test_a_built_wheel_takes_the_place_of_its_source_which_stays_known() -> None:
    made = built_lock()
    entry, lib = made.packages
    assert lib == wheel_package("lib")
    assert (entry["name"], entry["version"]) == ("deep-speed", "0.19.8")
    assert "sdist" not in entry
    assert made.installed == {"deep-speed": "0.19.8", "lib": "1.0"}
    assert made.sizes == {"deep-speed": 7}
    assert origins_of(made) == {"deep-speed": SDIST}
    assert built_hashes(made) == {"deep-speed": "1" * 64}
    again = EnvLock.from_dict(through_json(made.to_dict()))
    assert again == made
    assert again.digest == made.digest


def test_a_version_that_only_the_build_tells_is_locked() -> None:
    wheel = BuiltWheel(file_name="tool-3.1-py3-none-any.whl", sha256="2" * 64, size=1)
    assert with_built(lock(VCS), [wheel]).installed == {"tool": "3.1"}


def test_the_digest_is_of_the_wheel_and_not_of_where_its_source_lay() -> None:
    made = built_lock()
    elsewhere = {**SDIST, "sdist": {**SDIST["sdist"], "url": "https://mirror.example/x.tar.gz"}}
    assert with_built(lock(elsewhere, wheel_package("lib")), [WHEEL]).digest == made.digest
    assert with_built(made, [replace(WHEEL, sha256="3" * 64)]).digest != made.digest
    assert with_built(made, [WHEEL]) == made
    assert lock(SDIST, wheel_package("lib")).digest != made.digest


def test_a_lock_is_placed_by_hash_whatever_it_says_itself() -> None:
    made = built_lock()
    entry = made.packages[0]
    forged = {**entry, "wheels": [{**entry["wheels"][0], "path": "../../../etc/passwd"}]}
    placed = with_places(replace(made, packages=(forged, made.packages[1])), "/store/wheels")
    [wheel] = placed.packages[0]["wheels"]
    assert wheel["path"] == f"/store/wheels/{'1' * 64}/{WHEEL.file_name}"
    assert placed.packages[1] == made.packages[1]


def test_what_a_build_needs_not_is_left_without_sources() -> None:
    made = built_lock()
    assert without_sources(made).packages == (wheel_package("lib"),)
    assert without_sources(lock(SDIST, VCS)).packages == ()


def test_a_build_is_known_by_source_and_platform_and_by_what_it_sees_unless_isolated() -> None:
    before, after = lock(SDIST, wheel_package("lib")), built_lock()
    other_lib = lock(SDIST, wheel_package("lib", "2.0"))
    elsewhere = replace(before, platform_digest="another")
    other_host = replace(before, host_digest="another")

    def alone(of: EnvLock) -> str:
        return build_digest(SDIST, of, isolated=True)

    def beside(of: EnvLock) -> str:
        return build_digest(SDIST, of, isolated=False)

    assert alone(before) == alone(after) == alone(other_lib) == alone(other_host)
    assert alone(before) != alone(elsewhere)
    assert beside(before) == beside(after)
    assert len({beside(each) for each in (before, other_lib, elsewhere, other_host)}) == 4


def test_a_builds_digest_is_the_same_in_every_process_and_version() -> None:
    # Another one would build every wheel again.
    assert build_digest(SDIST, lock(SDIST), isolated=True) == (
        "c6f49e5e71ccdf31707638714721d1593f6ee7e3d8f7afd4a6c80f679d5bef2b"
    )
    assert build_digest(SDIST, lock(SDIST, wheel_package("lib")), isolated=False) == (
        "5021610e2905fd229b6d229c6839982ceae77481302e7683bfdaf84b3d8a1975"
    )


def test_a_build_is_known_by_the_bounds_of_what_it_uses_in_whatever_order() -> None:
    def bounded(*bounds: str) -> str:
        return build_digest(SDIST, lock(SDIST), isolated=True, build_constraints=bounds)

    assert bounded("setuptools<81", "wheel<1") == bounded("wheel<1", "setuptools<81")
    assert len({bounded(), bounded("setuptools<81"), bounded("setuptools<80")}) == 3


def test_version_and_size_of_a_built_wheel_are_not_those_of_the_hosts_of_that_name() -> None:
    before = lock(SDIST)
    of_host = locked("deep-speed", Role.SHADOWED, version="0.1")
    made = with_built(replace(before, distributions=(*before.distributions, of_host)), [WHEEL])
    assert [(each.role, each.version, each.size) for each in made.distributions] == [
        (Role.INSTALLED, "0.19.8", 7),
        (Role.SHADOWED, "0.1", None),
    ]


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("text", " is not a table"),
        ({"name": "deep-speed"}, ": Exactly one of"),
        (VCS, " is not a source of it"),
        (wheel_package("deep-speed"), " is not a source of it"),
        ({"name": "deep-speed", "directory": {"path": "/etc"}}, " is not a source of it"),
    ],
)
def test_an_origin_that_is_no_source_is_refused(origin: object, words: str) -> None:
    made = built_lock()
    forged = {**made.packages[0], "tool": {"xinference-venv": {"built-from": origin}}}
    with pytest.raises(InvalidRecord, match=f"^what deep-speed was built from{words}"):
        origins_of(replace(made, packages=(forged,)))


def test_a_built_entry_has_one_wheel_with_its_sha256() -> None:
    made = built_lock()
    wheel = made.packages[0]["wheels"][0]
    for wheels in ([], [wheel, wheel], [{**wheel, "hashes": {"sha512": "0" * 128}}]):
        forged = {**made.packages[0], "wheels": wheels}
        with pytest.raises(InvalidRecord, match=r"^deep-speed was .* more or less than a wheel"):
            built_hashes(replace(made, packages=(forged,)))
    unbuilt = {**SDIST, "tool": made.packages[0]["tool"]}
    with pytest.raises(InvalidRecord, match="more or less than a wheel"):
        built_hashes(replace(made, packages=(unbuilt,)))


def test_what_stands_in_the_tables_of_other_tools_is_left_alone() -> None:
    package = {**wheel_package("lib"), "tool": {"uv": {"built-from": "x"}, "xinference-venv": 3}}
    assert origins_of(lock(package)) == {}
