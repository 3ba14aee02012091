"""Print the lowest versions that pyproject.toml allows, one requirement a line, as constraints for pip.

python .github/lowest.py > lowest.txt && pip install -c lowest.txt -e ".[test]" && pytest
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
optional = project["optional-dependencies"].values()
for line in sorted({*project["dependencies"], *(line for extra in optional for line in extra)}):
    if not line.startswith("spyketorch"):
        name, version = re.fullmatch(r"([\w-]+)>=([\w.]+)", line).groups()
        print(f"{name}=={version}")
