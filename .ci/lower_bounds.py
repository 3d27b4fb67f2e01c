"""Install every runtime dependency at its lower bound in a temporary environment, import the whole package there and
run the demo.

A bound lower than what the code needs fails here, before a user's resolver finds it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

IMPORT_ALL = """
import importlib, pkgutil, gateway
names = [module.name for module in pkgutil.walk_packages(gateway.__path__, "gateway.")]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules import")
"""


def lowest(requirement: str) -> str:
    """``"redis[x]>=8.0"`` -> ``"redis[x]==8.0"``. Raises ValueError if there is no lower bound."""
    pinned, count = re.subn(r">=\s*([^,;\s]+)[^;]*", r"==\1", requirement, count=1)
    if not count:
        raise ValueError(f"{requirement!r} has no lower bound")
    return pinned


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [lowest(requirement) for requirement in project["dependencies"]]
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        quiet = ["--quiet", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", f"{folder}/venv"],
            [python, "-m", "pip", "install", *quiet, *pins],
            [python, "-c", IMPORT_ALL],
            [python, "-m", "gateway", "demo", "--once"],
        ):
            done = subprocess.run(command, cwd=ROOT, check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
