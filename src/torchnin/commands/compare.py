"""`nin compare`: networks side by side: size, work, memory, speed, and what their runs reached."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Given, Json, NetworkChoices, is_trained, named_config, picture_shape, shape_text
from torchnin.commands.output import note, result, table

if TYPE_CHECKING:
    from torchnin import NiN

_NO_CHOICES = NetworkChoices()
_MIB = 1024 * 1024
_SPEED_BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entrant:
    """One of the networks that are compared."""

    name: str
    network: "NiN"
    shape: tuple[int, int, int]
    named: bool = False
    accuracy: float | None = None
    judged_on: tuple[str, str, tuple[str, ...]] | None = None
    seconds: float | None = None


def compare(
    networks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="")],
    *,
    shape: Annotated[str | None, tyro.conf.arg(name="input", metavar="CxHxW", help_behavior_hint="")] = None,
    batch_size: Given[int] = None,
    seconds: float = 20.0,
    choices: NetworkChoices = _NO_CHOICES,
    device: Given[str] = None,
    as_json: Json = False,
) -> None:
    """Put networks side by side: parameters, multiply-adds, memory, images per second here; of runs accuracy and time too.

    A variant of a named network is written NAME:FIELD=VALUE,FIELD=VALUE with the flags below as fields. The chapter's exercises:

    nin compare nin_d2l nin_d2l:mlp_layers=0 nin_d2l:mlp_layers=1 nin_d2l:mlp_layers=3

    nin compare nin_d2l nin_d2l:mlp_kernel_size=3 nin_d2l:head=fc

    Args:
        networks: Named networks (see `nin models`), their variants, run folders, saved classifiers, weights that ship,
            or hf-hub:OWNER/NAME.
        shape: Shape of one picture for all of them; without it each has its own.
        batch_size: Pictures in a batch; without it memory is counted for 1 and speed measured with 32.
        seconds: Time for measuring speed, of all networks together; 0 leaves it out.
        choices: What to change in all named networks.
        device: Where to measure: auto (so by default), cpu, cuda or mps.
        as_json: Print one JSON document on standard output.
    """
    if not networks:
        raise ValueError("no network was named; give names (see nin models), variants such as nin_d2l:head=fc, or run folders")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"--seconds is {seconds}; give a time, or 0 to measure no speed")
    if device is not None and not seconds:
        raise ValueError(f"--device {device} is where speed is measured, and --seconds 0 leaves that out: leave out one of them")
    if batch_size is not None and batch_size < (2 if seconds else 1):
        raise ValueError(
            f"--batch-size is {batch_size}; it must be at least 1, and at least 2 to measure speed (--seconds 0 leaves that out)"
        )
    asked = picture_shape(shape) if shape else None
    entrants = [_entrant(text, choices, asked) for text in networks]
    if choices.given() and not any(one.named for one in entrants):
        flags = ", ".join("--" + name.replace("_", "-") for name in choices.given())
        raise ValueError(f"these are trained networks, and nothing is changed in them; leave out {flags}")
    counted = batch_size or 1
    summaries = [torchnin.summarize(one.network, (counted, *one.shape)) for one in entrants]
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "input": list(one.shape),
            "num_parameters": summary.num_parameters,
            "num_macs": summary.num_macs // counted,
            "predict_bytes": summary.predict_bytes,
            "train_bytes": summary.train_bytes,
            "images_per_second": None,
            "test_accuracy": one.accuracy,
            "seconds": one.seconds,
        }
        for one, summary in zip(entrants, summaries, strict=True)
    ]
    document: dict[str, Any] = {"memory_batch_size": counted, "networks": rows}
    if seconds:
        there = torchnin.choose_device(device or "auto").to_dict()
        speeds = torchnin.training.measure_speed(
            [one.network for one in entrants],
            [one.shape for one in entrants],
            batch_size=batch_size or _SPEED_BATCH,
            seconds=seconds,
            device=device or "auto",
        )
        for row, speed in zip(rows, speeds, strict=True):
            row["images_per_second"] = {name: value for name, value in speed.to_dict().items() if name in ("predict", "train")}
        document |= {"speed_batch_size": speeds[0].batch_size, "rounds": speeds[0].rounds, "device": there}
        note(
            f"images/s: median of {speeds[0].rounds} interleaved rounds (slowest to fastest), batches of {speeds[0].batch_size}, "
            f"on {there['device']} with {there['threads']} threads; predict in float32, train (SGD with momentum) in {there['dtype']}"
        )
    note(f"MACs for one picture; memory counted for float32 and batches of {counted}, training with momentum")
    judged = {one.name: one.judged_on for one in entrants if one.accuracy is not None and one.judged_on}
    if len(set(judged.values())) > 1:
        each = ", ".join(f"{name} of {data[0]}" for name, data in judged.items())
        note(f"test accuracy: each of its own test pictures, which are not the same ({each})")
    result(document, _table(rows), as_json)


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["network", "input", "parameters", "MACs", "predict MiB", "train MiB"]
    lines = [
        [
            row["name"],
            shape_text(row["input"]),
            f"{row['num_parameters']:,}",
            f"{row['num_macs']:,}",
            f"{row['predict_bytes'] / _MIB:.1f}",
            f"{row['train_bytes'] / _MIB:.1f}",
        ]
        for row in rows
    ]
    if rows[0]["images_per_second"]:
        header += ["predict images/s", "train images/s"]
        for line, row in zip(lines, rows, strict=True):
            line += [_rate(row["images_per_second"][what]) for what in ("predict", "train")]
    if any(row["test_accuracy"] is not None for row in rows):
        header += ["test accuracy", "trained in"]
        for line, row in zip(lines, rows, strict=True):
            line.append("-" if row["test_accuracy"] is None else f"{row['test_accuracy']:.4f}")
            line.append("-" if row["seconds"] is None else f"{row['seconds']:.0f} s")
    return table(header, lines, right=frozenset(range(2, len(header))))


def _rate(rate: dict[str, float]) -> str:
    return f"{_short(rate['median'])} ({_short(rate['low'])}-{_short(rate['high'])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _entrant(text: str, choices: NetworkChoices, shape: tuple[int, int, int] | None) -> _Entrant:
    """The network that an argument names.

    Raises:
        ValueError: it names none, a field or value of its variant is wrong, or it does not admit the pictures.
    """
    if is_trained(text):
        return _trained(text, shape)
    name, colon, _ = text.partition(":")
    if colon and is_trained(name):
        raise ValueError(f"{text!r}: {name} is a trained network; only named networks have variants")
    config = named_config(text, choices)
    channels = config.in_channels
    if shape and shape[0] != channels:
        said = f"--input {shape_text(shape)} has {shape[0]} channels; {text} takes {channels}"
        raise ValueError(f"{said} (write {name}:in_channels={shape[0]})")
    if shape:
        config = dataclasses.replace(config, image_size=max(shape[1:]))  # a fully connected head is made for one size
    network = torchnin.NiN(config)
    picture = shape or (channels, config.image_size, config.image_size)
    _check_size(text, network, picture)
    return _Entrant(name=text, network=network, shape=picture, named=True)


def _trained(text: str, shape: tuple[int, int, int] | None) -> _Entrant:
    classifier = load_classifier(text, device="cpu", backend="torch")
    p = classifier.preprocessing
    if shape and shape[0] != p.channels:
        raise ValueError(f"--input {shape_text(shape)} has {shape[0]} channels; {text} takes {p.channels}")
    picture = shape or (p.channels, p.height, p.width)
    _check_size(text, classifier.network, picture)
    run, data = torchnin.Run(text), torchnin.saved.record_of_data(classifier.metadata)
    # A folder of pictures may have moved, and may have been read in another size.
    judged_on = (Path(str(data.get("name"))).name, str(data.get("test_pictures")), classifier.class_names) if data else None
    return _Entrant(
        name=text,
        network=classifier.network,
        shape=picture,
        accuracy=torchnin.saved.number_in(classifier.metadata, "test_accuracy"),
        judged_on=judged_on,
        seconds=run.result.get("seconds") if run.finished else None,
    )


def _check_size(text: str, network: "NiN", shape: tuple[int, int, int]) -> None:
    try:
        network.check_size(*shape[1:])
    except ValueError as error:
        raise ValueError(f"{text} with pictures of {shape_text(shape)}: {error}") from error
