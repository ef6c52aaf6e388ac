"""Print the oldest versions that `pyproject.toml` allows, a line each, so that they can be installed and tested as well.

    python -m venv oldest && python tools/lowest.py > oldest.txt
    oldest/bin/pip install -r oldest.txt pytest hypothesis beartype scikit-learn && oldest/bin/pip install --no-deps -e .
    oldest/bin/python -m pytest -o filterwarnings=default

Extras are among them, the development's aside. Old libraries warn of what newer ones do otherwise, hence the option.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)(;.+)?")


def main() -> None:
    """Print them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines]
    for requirement in (*project["dependencies"], *extras):
        if not (found := _REQUIREMENT.fullmatch(requirement)):
            raise SystemExit(f"{requirement!r} names no oldest version")
        print(f"{found[1]}=={found[2]}{found[3] or ''}")


if __name__ == "__main__":
    main()
