"""`nin`: the entry point. Turns what goes wrong into one message and an exit code."""

import contextlib
import difflib
import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import torchnin
from torchnin.commands.choices import choices
from torchnin.commands.output import UnreadError, for_a_reader, let_go, never_fail_to_print, note, write
from torchnin.commands.process import set_up_process

# A command's module is imported when it is called, so that `nin --help` answers at once.
_COMMANDS = {
    "models": "the named networks: parameters, multiply-adds, input, the weights that ship, source",
    "summary": "a network layer by layer: shapes, parameters, multiply-adds, receptive field, memory",
    "datasets": "the named datasets and where each was found; gets one",
    "train": "train a network: a run folder with metrics, result and classifier",
    "evaluate": "accuracy with its interval, per class, confusion, calibration",
    "predict": "classify pictures: files, folders, patterns",
    "explain": "class maps over the picture, feature maps, the channels at a pixel",
    "compare": "networks, their variants and runs side by side",
    "export": "one .onnx file that answers as predict does, for use without torch",
    "serve": "answer over HTTP with a classifier: predictions, explanations, a page to look inside",
    "doctor": "device, number format, memory layout, versions, and why each was chosen",
}
_HELP = f"""usage: nin COMMAND ...

Network in Network: train it, use it, look inside it.
Begin with `nin train`: it gets Fashion-MNIST, trains for some minutes and leaves a classifier in runs/.

{chr(10).join(f"  nin {name:<9} {what}" for name, what in _COMMANDS.items())}

`nin COMMAND --help` shows a command's options, `nin --version` the version."""
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 the work failed, 2 the call was wrong."""
    never_fail_to_print()
    try:
        _main(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        let_go()


def _main(given: list[str]) -> None:
    name = given[0] if given else "--help"
    if name in ("--help", "-h", "--version"):
        with contextlib.suppress(UnreadError):
            write(f"torchnin {torchnin.__version__}" if name == "--version" else _HELP)
        return
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        note(f"nin: there is no command {name!r}; {hint}the commands: {', '.join(_COMMANDS)}")
        sys.exit(2)
    if os.environ.get("TORCHNIN_DEBUG") != "1":
        warnings.formatwarning = _one_line
    # One large picture must not stay in a service's memory for good; a training begins to keep memory when it has read its data.
    set_up_process(keep=name not in ("serve", "train"))
    try:
        code = _run(name, given[1:])
        with for_a_reader():
            sys.stdout.flush()
    except UnreadError:
        code = 0  # nothing is wrong, and nobody is there to be told
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("TORCHNIN_DEBUG") == "1":
            sys.excepthook(type(error), error, error.__traceback__)
        message, code = _explained(error)
        if not (_follows() and getattr(error, "everywhere", False)):
            note(f"nin: {message}")
    if code and os.environ.get("WORLD_SIZE", "1") != "1":
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End one of several processes without an orderly end of the interpreter, which would take torch apart.

    Its threads may still hold connections to processes that are gone; SIGABRT has been seen in place of the exit code.
    """
    let_go()
    os._exit(code)


def _run(name: str, arguments: list[str]) -> int | None:
    """Parse a command's arguments and call it."""
    import inspect

    import tyro

    if "" in arguments:  # as a path, it would be the current folder
        raise ValueError("an argument is empty, as that of a shell's variable that is not set; say what is meant, or leave it out")
    command: Any = getattr(importlib.import_module(f"torchnin.commands.{name}"), name)
    # A line of an argument's help that is indented further is a new line to tyro.
    command.__doc__ = re.sub(r"\n {8}", " ", inspect.getdoc(command) or "")
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)
    # Help is written by tyro itself.
    with for_a_reader() if {"-h", "--help"} & set(arguments) else contextlib.nullcontext():
        code: int | None = tyro.cli(
            command, prog=f"nin {name}", args=arguments, config=config, registry=choices(), console_outputs=not _follows()
        )
    return code


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning without the line of code that it comes from."""
    return f"nin: {message}\n"


def _follows() -> bool:
    """Whether this is one of several processes that torchrun started, and not the first, which speaks for all."""
    return os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1"


def _out_of_memory(error: BaseException) -> bool:
    device = sys.modules.get("torchnin.device")  # where torch was not needed, nothing of it has failed
    return isinstance(error, MemoryError) or (device is not None and device.is_out_of_memory(error))


def _explained(error: BaseException) -> tuple[str, int]:
    """The message for the user, and the exit code."""
    text = str(error) or type(error).__name__
    if (signal := getattr(error, "signal_number", 0)) and isinstance(error, KeyboardInterrupt):  # a training, which says how it goes on
        return text, 128 + int(signal)
    if isinstance(error, KeyboardInterrupt):
        return "stopped", _INTERRUPTED
    # A missing file that a sentence of ours is about is a wrong call; what the system says of one went away meanwhile.
    if isinstance(error, OSError) and (error.errno is not None or not isinstance(error, FileNotFoundError)):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text}", 1
    if type(error).__module__.startswith("torchnin."):
        return text, 1
    if _out_of_memory(error):
        return "out of memory; what was saved stays as it is", 1
    if isinstance(error, ValueError | FileNotFoundError):
        return text, 2
    if isinstance(error, ImportError):
        return text, 1
    return f"{type(error).__name__}: {text} (this should not happen; TORCHNIN_DEBUG=1 shows where it comes from)", 1
