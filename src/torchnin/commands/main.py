"""`nin`: the entry point. Turns what goes wrong into one message and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import tyro

import torchnin
from torchnin.commands.compare import compare
from torchnin.commands.datasets import datasets
from torchnin.commands.doctor import doctor
from torchnin.commands.evaluate import evaluate
from torchnin.commands.explain import explain
from torchnin.commands.models import models
from torchnin.commands.predict import predict
from torchnin.commands.summary import summary
from torchnin.commands.train import train

_COMMANDS: dict[str, Any] = {
    "models": models,
    "summary": summary,
    "datasets": datasets,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "compare": compare,
    "doctor": doctor,
}
_DESCRIPTION = """Network in Network: train it, use it, look inside it.

Begin with `nin train`: it gets Fashion-MNIST, trains for some minutes and leaves a classifier in `runs/`."""
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 the work failed, 2 the call was wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--version" in given[:1]:
        print(f"torchnin {torchnin.__version__}")
        return
    # Threads that wait for each other by spinning for long are ruinous as soon as anything else runs on the machine: one busy
    # process beside a training on two cores costs a factor of 8 to 14 with libgomp's default, and a factor of 1.5 with this.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="nin",
            description=_DESCRIPTION,
            args=given or ["--help"],
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.PositionalMetavarFromFieldName,
                tyro.conf.DisallowNone,
            ),
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output left, as `nin predict ... | head` does; nothing is wrong and nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("TORCHNIN_DEBUG") == "1":
            raise
        message, code = _explained(error)
        print(f"nin: {message}", file=sys.stderr)
    sys.exit(code)


def _explained(error: BaseException) -> tuple[str, int]:
    """The message for the user, and the exit code."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return "stopped", _INTERRUPTED
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text}", 1
    if type(error).__module__.startswith("torchnin."):
        return text, 128 + signal if (signal := getattr(error, "signal_number", 0)) else 1
    if isinstance(error, ValueError | FileNotFoundError):
        return text, 2
    if isinstance(error, ImportError):
        return text, 1
    return f"{type(error).__name__}: {text} (this should not happen; TORCHNIN_DEBUG=1 shows where it comes from)", 1
