"""What pip and uv are configured to, by the files of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from xinference_venv.errors import InvalidSource
from xinference_venv.service.pip_files import pip_config_of, talking_settings_of


@pytest.mark.parametrize(
    "variable", ["PIP_CONSTRAINT", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT"]
)
def test_a_file_of_requirements_that_can_not_be_read_is_no_empty_one(
    tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "lines.txt"
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", variable: str(file)}
    with pytest.raises(InvalidSource, match=f"{file}, a file of constraints .* can't be read"):
        pip_config_of(environ)
    file.write_text("lantern<2  # not yet\n")
    found = pip_config_of(environ)
    [lines] = filter(None, (found.constraints, found.overrides, found.build_constraints))
    assert lines == ("lantern<2",)


def test_what_a_file_of_constraints_names_counts_from_its_own_folder_on(tmp_path: Path) -> None:
    """As with pip and uv; pip refuses files that name each other, uv reads each once."""
    (tmp_path / "more").mkdir()
    file = tmp_path / "top.txt"
    file.write_text(
        "-r more/one.txt  # why\n--constraint=more/two.txt\nlantern<2\n-cmore/a b.txt\n"
    )
    (tmp_path / "more" / "one.txt").write_text("lamp<3\n-r ../top.txt\n")
    (tmp_path / "more" / "two.txt").write_text('-c "three.txt"\nwick<4 --hash=sha256:00\n')
    (tmp_path / "more" / "three.txt").write_text("oil<5\n")
    (tmp_path / "more" / "a b.txt").write_text("glass<6\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "UV_CONSTRAINT": str(file)}
    found = pip_config_of(environ)
    assert found.constraints == ("lantern<2", "lamp<3", "wick<4", "glass<6", "oil<5")
    assert found.not_honoured == ()


def test_a_file_that_a_file_of_constraints_names_and_that_is_missing_is_an_error(
    tmp_path: Path,
) -> None:
    file = tmp_path / "top.txt"
    file.write_text("-r gone.txt\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "PIP_CONSTRAINT": str(file)}
    with pytest.raises(InvalidSource, match=r"gone\.txt, a file of constraints .* can't be read"):
        pip_config_of(environ)


@pytest.mark.parametrize("variable", ["PIP_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT"])
def test_a_line_of_a_file_that_is_no_requirement_is_named(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("lantern<2\nlamp=3\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", variable: str(file)}
    with pytest.raises(InvalidSource, match=f"{file} has 'lamp=3', which is no requirement"):
        pip_config_of(environ)


def test_options_in_a_file_of_constraints_that_count_for_nothing_are_named(tmp_path: Path) -> None:
    file = tmp_path / "top.txt"
    file.write_text("-i https://u:pw@h/simple\n--pre\n-r https://u:pw@h/r.txt\nlantern<2\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "PIP_CONSTRAINT": str(file)}
    found = pip_config_of(environ)
    assert found.constraints == ("lantern<2",)
    assert found.not_honoured == (
        f"-i in {file}",
        f"--pre in {file}",
        f"-r https://****@h/r.txt in {file}",
    )


def test_constraints_that_a_file_of_overrides_names_override_nothing(tmp_path: Path) -> None:
    file = tmp_path / "top.txt"
    file.write_text("-r more.txt\n-c less.txt\n")
    (tmp_path / "more.txt").write_text("lamp<3\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "UV_OVERRIDE": str(file)}
    found = pip_config_of(environ)
    assert found.overrides == ("lamp<3",)
    assert found.not_honoured == (f"-c less.txt in {file}",)


def test_settings_in_files_of_uv_are_named_where_they_would_choose(tmp_path: Path) -> None:
    user = tmp_path / "config" / "uv" / "uv.toml"
    system = tmp_path / "system" / "uv" / "uv.toml"
    for path in (user, system):
        path.parent.mkdir(parents=True)
    user.write_text(
        """cache-dir = "/cache"
python-preference = "only-system"
exclude-newer = "2026-01-01"
[[index]]
url = "https://ada:s3cret@mirror.example/simple"
[pip]
no-binary = ["numpy"]
"""
    )
    system.write_text("no-index = [")
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "system"),
        "PIP_CONFIG_FILE": "/dev/null",
    }
    keys = ("exclude-newer", "index", "no-binary-package")
    expected = tuple(f"{key} in {user}" for key in keys)
    assert pip_config_of(environ).uv_settings_not_honoured == expected
    for name in ("UV_NO_CONFIG", "UV_CONFIG_FILE"):
        assert pip_config_of({**environ, name: "1"}).uv_settings_not_honoured == ()


def test_how_uv_is_to_talk_to_an_index_of_pip_is_no_setting_that_counts_for_nothing(
    tmp_path: Path,
) -> None:
    user = tmp_path / "config" / "uv" / "uv.toml"
    user.parent.mkdir(parents=True)
    entry = """[[index]]
url = "https://ada:s3cret@mirror.example/simple/"
authenticate = "always"
cache-control = { api = "max-age=600" }
"""
    user.write_text(entry)
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "system"),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "https://mirror.example/simple",
    }
    talking = {"authenticate": "always", "cache-control": {"api": "max-age=600"}}
    assert pip_config_of(environ).uv_settings_not_honoured == ()
    assert talking_settings_of(environ) == {"https://mirror.example/simple": talking}
    user.write_text(f'{entry}exclude-newer = "2026-01-01"\n')
    assert pip_config_of(environ).uv_settings_not_honoured == (f"index in {user}",)
    assert talking_settings_of(environ) == {"https://mirror.example/simple": talking}
    user.write_text(f'{entry}format = "round"\n')
    assert pip_config_of(environ).uv_settings_not_honoured == ()
    assert talking_settings_of(environ) == {}
    assert talking_settings_of({**environ, "UV_NO_CONFIG": "1"}) == {}
