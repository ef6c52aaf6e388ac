"""Run the notebooks from the first cell to the last, each in an empty folder of its own, and keep what they show.

    python notebooks/execute.py                      all of them, written back with their outputs; each within five minutes on two cores
    python notebooks/execute.py notebooks/en/1-the-block.ipynb
    python notebooks/execute.py --short --check      with shortened training, writing nothing: what the tests do
    python notebooks/execute.py --check --times notebooks/times.json    how long each takes, by the clock and in processor seconds

A cell tagged `parameters` holds what a short run changes; its metadata say what to run in its place. Pictures are kept small, and
a warning, an error or a path of this machine in an output fails the run.
"""

import argparse
import base64
import io
import json
import os
import re
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
WIDEST = 900  # pixels of a picture that is kept
UNWANTED = re.compile(r"warning|traceback|(?<![\w.])/(?:home|root|tmp|usr|work|Users|private|var)/", re.IGNORECASE)


def executed(path: Path, *, short: bool) -> nbformat.NotebookNode:
    """The notebook with the outputs of this run."""
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if short and "short" in cell.metadata:
            cell.source = cell.metadata["short"]
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    notebook.metadata.language_info = {"name": "python"}  # and not the version that ran it
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                _keep_small(output)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Printed lines in one piece, however many messages they came in."""
    kept: list[Any] = []
    for output in outputs:
        if kept and output.output_type == kept[-1].output_type == "stream" and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _keep_small(output: dict[str, Any]) -> None:
    data = output.get("data", {})
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        if picture.width > WIDEST:
            picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(file, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(file.getvalue()).decode() + "\n"
        data["text/plain"] = "<picture>"


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What no reader should meet in an output."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            if output.output_type == "error" or output.get("name") == "stderr" or UNWANTED.search(text):
                found.append(f"cell {number}: {output.output_type}: {text[:300]}")
    return found


def processor_seconds() -> float:
    """What the kernels that have ended took of the processor, in all their threads."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the notebooks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="which ones; all where none is named")
    parser.add_argument("--short", action="store_true", help="with shortened training")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--times", type=Path, help="keep in this file how long each took; what it holds of others stays")
    options = parser.parse_args()
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the kernel's debugger would speak of frozen modules
    for path in options.notebooks or sorted(HERE.glob("*/*.ipynb")):
        begun, before, load = time.monotonic(), processor_seconds(), os.getloadavg()[0]
        notebook = executed(path, short=options.short)
        if found := faults(notebook):
            sys.exit(f"{path}:\n" + "\n".join(found))
        if not options.check:
            nbformat.write(notebook, path)
        name, seconds, spent = f"{path.parent.name}/{path.name}", time.monotonic() - begun, processor_seconds() - before
        print(f"{name}: {seconds:.0f} s, {spent:.0f} s of processor", flush=True)
        if options.times:
            times = json.loads(options.times.read_text(encoding="utf-8")) if options.times.is_file() else {}
            times[name] = {
                "seconds": round(seconds, 1),
                "processor_seconds": round(spent, 1),
                "load_before": round(load, 1),
                "cores": os.cpu_count(),
                "date": datetime.now(UTC).date().isoformat(),
            }
            options.times.write_text(json.dumps(dict(sorted(times.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
