"""The licence of everything that an installed torchnin brings with it, and whether it may.

    python tools/licences.py               what `pip install torchnin` brings
    python tools/licences.py plot web      with these extras

Ends with 1 where a licence is not among the accepted ones.
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import NamedTuple

# Free licences that ask for no more than notices; under them an MIT library may be used for anything.
ACCEPTED = frozenset(
    (
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-CMU", "PSF-2.0"),
        *("Python-2.0", "Unlicense", "Zlib", "MPL-2.0", "Apache-2.0 WITH LLVM-exception"),
    )
)
# How packages say it that do not use SPDX identifiers yet.
_SPOKEN = {
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "psf": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "isc license (iscl)": "ISC",
}
# Builds of torch for NVIDIA devices bring NVIDIA's own libraries, free to use and to pass on, not open.
_NVIDIA = re.compile(r"nvidia-|cuda-|triton$")


class Licence(NamedTuple):
    """One package and what it says of itself."""

    name: str
    version: str
    licence: str
    accepted: bool


def licences(extras: frozenset[str] = frozenset()) -> list[Licence]:
    """Every installed package that torchnin with these extras needs, directly or through others, by name."""
    from packaging.requirements import Requirement

    found: dict[str, Licence] = {}
    waiting, seen = [("torchnin", extras)], set()
    while waiting:
        name, wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, wanted) in seen:
            continue
        seen.add((key, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        licence = licence_of(package)
        found[key] = Licence(key, package.version, licence, bool(_NVIDIA.match(key)) or is_accepted(licence))
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return sorted(found.values())


def licence_of(package: Distribution) -> str:
    """What a package's metadata say: the SPDX expression, else the classifiers, else the free text's first line."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [value.rsplit(" :: ", 1)[-1] for value in metadata.get_all("Classifier", []) if value.startswith("License :: ")]
    stated = [name for name in classifiers if name != "OSI Approved"] or [(metadata.get("License") or "not stated").strip().splitlines()[0]]
    return " AND ".join(_SPOKEN.get(text.lower(), text) for text in stated)


def is_accepted(expression: str) -> bool:
    """Whether every part of an SPDX expression that must be kept is among the accepted ones (`A OR B`: one of them is enough)."""
    parts = re.split(r"\s+AND\s+", expression.replace("(", "").replace(")", ""))
    return all(any(choice.strip() in ACCEPTED for choice in re.split(r"\s+OR\s+", part)) for part in parts)


def main() -> None:
    """Print the list."""
    rows = licences(frozenset(sys.argv[1:]))
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}}  {row.version:<16}  {row.licence}{'' if row.accepted else '   NOT ACCEPTED'}")
    sys.exit(not all(row.accepted for row in rows))


if __name__ == "__main__":
    main()
