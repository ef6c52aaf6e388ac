"""The picture at the top of the README, in both languages: class maps over two test pictures, drawn by weights that ship.

python benchmarks/picture.py
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
    parser.add_argument("classifier", nargs="?", default="fashion-mnist-small", help="a run folder or the name of weights that ship")
    classifier = torchnin.load(parser.parse_args().classifier)
    for language, ending in (("en", ".png"), ("zh", ".zh-CN.png")):
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for name in ("ankle-boot", "shirt"):
                path = Path(folder) / f"{name}.png"
                classifier.explain(PICTURES / f"{name}.png").save(path, top=3, language=language)
                rows.append(Image.open(path).convert("RGB"))
        sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
        top = 0
        for row in rows:
            sheet.paste(row, (0, top))
            top += row.height
        sheet.save(PICTURES / f"class-maps{ending}", optimize=True)


if __name__ == "__main__":
    main()
