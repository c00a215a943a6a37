"""What programs import from the package itself."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import xinference_venv
from xinference_venv import errors


@pytest.mark.parametrize("name", xinference_venv.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(xinference_venv, name) is not None


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert {name for name in classes if name.endswith("Error")} <= set(xinference_venv.__all__)
    own = {name for name in classes if vars(errors)[name].__module__ == errors.__name__}
    assert own <= set(xinference_venv.__all__)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'ClusterState'"):
        _ = xinference_venv.ClusterState


def test_errors_and_the_version_need_neither_xoscar_nor_pandas() -> None:
    program = (
        "import sys, xinference_venv; assert xinference_venv.NotFound; "
        "print(xinference_venv.__version__, {'xoscar', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [xinference_venv.__version__, "set()"], done.stderr
