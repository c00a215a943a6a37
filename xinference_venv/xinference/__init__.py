"""The drop-in for Xinference: its virtual environments, made by our engine.

An unmodified Xinference asks ``xoscar.virtualenv.get_virtual_env_manager("uv", path)`` for the
manager of an environment. After `install` it gets ours, with the same interface and the
environment at the same path.
"""

from xinference_venv.xinference.extension import extension as extension
from xinference_venv.xinference.manager import InPlaceEnvManager as InPlaceEnvManager
from xinference_venv.xinference.manager import install as install
