"""``python -m xinference_venv`` is the command ``xinference-venv``."""

from __future__ import annotations

import sys

from xinference_venv.cli import main

sys.exit(main())
