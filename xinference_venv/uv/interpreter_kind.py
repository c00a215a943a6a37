"""What an interpreter is by its program alone: version, markers (PEP 508), tags of wheels.

Imported here, and run as text in other interpreters, from Python 3.8 on; `packaging` is lent to
them. Its module of markers is not imported, which would take half as long again.
"""

from __future__ import annotations

import os
import sys


def program() -> str:
    """The real path of the program that runs this, whichever environment it is started by."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def kind() -> dict[str, object]:
    """What is equal for all environments of one build of a program, in plain JSON values."""
    import platform

    from packaging.tags import sys_tags

    # One that is built from a checkout is "3.14.1+", which is no version of PEP 440; to pip and uv
    # it is 3.14.1.
    version = platform.python_version().rstrip("+")
    own = sys.implementation
    level = own.version.releaselevel
    pre = "" if level == "final" else level[0] + str(own.version.serial)
    markers = {
        "implementation_name": own.name,
        "implementation_version": ".".join(map(str, own.version[:3])) + pre,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": version,
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }
    return {
        "version": version,
        "markers": markers,
        "tags": [str(each) for each in sys_tags()],
    }
