"""How long `nin predict` takes over very many pictures, and how much memory it holds.

    nin train --num-epochs 1 --out runs/streaming
    python benchmarks/streaming/measure.py runs/streaming

A folder is filled with as many PNG files of 28x28 pixels as asked for (those of the sample inside the package, over and over, as
links), and `nin predict RUN FOLDER --csv` goes over it in a process of its own, its lines written to a file. One picture of a hundred
does not decode: it is reported in its place and ends nothing. Seconds are those of the whole process, start included; memory is the
largest that the process held at any time (its peak resident set). Written to `results/streaming.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

import torchnin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import machine  # noqa: E402

RESULTS = HERE / "results"
COUNTS = (1_000, 10_000, 100_000)
BROKEN = 100


def fill(folder: Path, count: int) -> int:
    """Make the pictures.

    Returns:
        How many of them do not decode.
    """
    sample = torchnin.load_dataset("fashion-mnist-sample").test.images
    originals = folder / "originals"
    originals.mkdir()
    for number, picture in enumerate(sample):
        Image.fromarray(picture[0]).save(originals / f"{number}.png")
    (originals / "broken.png").write_bytes((originals / "0.png").read_bytes()[:100])
    (folder / "pictures").mkdir()
    for number in range(count):
        if number % 10_000 == 0:
            part = folder / "pictures" / f"{number // 10_000}"
            part.mkdir()
        name = "broken" if number % BROKEN == 0 else number % len(sample)
        os.link(originals / f"{name}.png", part / f"{number}.png")
    return len(range(0, count, BROKEN))


def measure(run: str, count: int) -> dict[str, Any]:
    """Predict that many pictures in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broken = fill(folder, count)
        call = [sys.executable, "-m", "torchnin", "predict", run, str(folder / "pictures"), "--csv"]
        begun, load = time.monotonic(), os.getloadavg()[0]
        with open(folder / "lines.csv", "wb") as lines:
            process = subprocess.Popen(call, stdout=lines, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        written = (folder / "lines.csv").read_text(encoding="utf-8").splitlines()[1:]
    reported = sum(line.split(",")[1] == "" for line in written)
    if (os.waitstatus_to_exitcode(status), len(written), reported) != (1, count, broken):
        raise RuntimeError(f"of {count} pictures {len(written)} lines, {reported} broken; exit status {status}")
    return {
        "pictures": count,
        "broken": broken,
        "seconds": round(seconds, 1),
        "pictures_per_second": round(count / seconds),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20), 1),
        "load_before": load,
    }


def main() -> None:
    """Measure each count and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="how many pictures")
    options = parser.parse_args()
    rows = []
    for count in options.counts:
        rows.append(measure(options.run, count))
        print(rows[-1], flush=True)
    document = {
        "command": "python benchmarks/streaming/measure.py RUN",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streaming.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
