"""The picture at the top of the README: class maps of a run over two test pictures.

make run
python benchmarks/picture.py runs/first
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

import torchnin

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def main() -> None:
    """Draw the class maps of each picture and put them below each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder")
    classifier = torchnin.load(parser.parse_args().run)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name in ("ankle-boot", "shirt"):
            path = Path(folder) / f"{name}.png"
            classifier.explain(PICTURES / f"{name}.png").save(path, top=3)
            rows.append(Image.open(path).convert("RGB"))
        sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
        top = 0
        for row in rows:
            sheet.paste(row, (0, top))
            top += row.height
        sheet.save(PICTURES / "class-maps.png", optimize=True)


if __name__ == "__main__":
    main()
