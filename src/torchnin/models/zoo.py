"""The networks by name: six as published, five of our own."""

import dataclasses
import difflib
from typing import Any

from .config import BlockConfig, ClassBlockConfig, NiNConfig
from .nin import NiN
from .shipped import fill, list_weights, weights_entry


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A named network: its configuration and where it comes from."""

    name: str
    """As `create_model` and `nin` take it."""
    config: NiNConfig
    """The network as published, or as measured best."""
    source: str
    """Who published it, and where."""


def _authors(first: tuple[int, ...], second: tuple[int, ...], third: ClassBlockConfig, **fields: Any) -> NiNConfig:
    """The shape shared by the authors' CIFAR, SVHN and MNIST networks; dropout follows each of the two poolings."""
    return NiNConfig(
        blocks=(
            BlockConfig(channels=first, kernel_size=5, padding=2),
            BlockConfig(channels=second, kernel_size=5, padding=2),
        ),
        class_block=third,
        dropout_at="every",
        pool_rounding="ceil",
        **fields,
    )


def _alexnet_like(class_block: ClassBlockConfig, **fields: Any) -> NiNConfig:
    """AlexNet's kernels and widths as NiN blocks: the authors' ImageNet network, which the notebooks follow."""
    return NiNConfig(
        blocks=(
            BlockConfig(channels=(96, 96, 96), kernel_size=11, stride=4),
            BlockConfig(channels=(256, 256, 256), kernel_size=5, padding=2),
            BlockConfig(channels=(384, 384, 384), kernel_size=3, padding=1),
        ),
        class_block=class_block,
        image_size=224,
        **fields,
    )


def _authors_cifar(num_classes: int) -> NiNConfig:
    return _authors(
        (192, 160, 96),
        (192, 192, 192),
        ClassBlockConfig(hidden=(192, 192)),
        in_channels=3,
        num_classes=num_classes,
        image_size=32,
    )


_PUBLISHED = (
    ModelEntry(
        name="nin_d2l",
        config=_alexnet_like(ClassBlockConfig(), in_channels=1, num_classes=10),
        source="Dive into Deep Learning, section 8.3 (zh 7.3): the notebooks' network",
    ),
    ModelEntry(
        name="nin_cifar10",
        config=_authors_cifar(10),
        source="Lin, Chen, Yan, arXiv 1312.4400; mavenlin/cuda-convnet, NIN/cifar-10_def",
    ),
    ModelEntry(
        name="nin_cifar100",
        config=_authors_cifar(100),
        source="Lin, Chen, Yan, arXiv 1312.4400; mavenlin/cuda-convnet, NIN/cifar-100_def",
    ),
    ModelEntry(
        name="nin_svhn",
        config=_authors(
            (128, 96, 64),
            (320, 256, 128),
            ClassBlockConfig(hidden=(384, 256), kernel_size=5, padding=2),
            in_channels=3,
            num_classes=10,
            image_size=32,
        ),
        source="Lin, Chen, Yan, arXiv 1312.4400; mavenlin/cuda-convnet, NIN/svhn_def",
    ),
    ModelEntry(
        name="nin_mnist",
        config=_authors(
            (96, 64, 48),
            (128, 96, 48),
            ClassBlockConfig(hidden=(128, 96), kernel_size=5, padding=2),
            in_channels=1,
            num_classes=10,
            image_size=28,
        ),
        source="Lin, Chen, Yan, arXiv 1312.4400; mavenlin/cuda-convnet, NIN/mnist_def",
    ),
    ModelEntry(
        name="nin_imagenet",
        config=_alexnet_like(ClassBlockConfig(hidden=(1024, 1024)), in_channels=3, num_classes=1000, pool_rounding="ceil"),
        source="the authors' ImageNet network, Caffe model zoo (gist mavenlin/d802a5849de39225bcc6); chainer examples/imagenet/nin.py",
    ),
)

_OURS = "torchnin: shapes chosen by measured accuracy per second, docs/lab-log.md"
_OURS_COMPACT = "torchnin: more accuracy in longer trainings within 350,000 parameters, docs/lab-log.md"
_OURS_BASE = "torchnin: more accuracy in longer trainings within a million parameters, docs/lab-log.md"
_OURS_LARGE = "torchnin: nin_base with more channels, within two million parameters, docs/lab-log.md"


def _ours(*widths: int, hidden: int, first_stride: int = 1, unpooled: tuple[int, ...] = ()) -> NiNConfig:
    """Our networks for 28 to 32 pixels: batch normalisation, and class maps that may be negative, so that none can die.

    Each block is a 3x3 and one 1x1 convolution of the same width, and pooling but after the `unpooled` ones (from 0); the class
    block's 3x3 has `hidden` channels.
    """
    return NiNConfig(
        blocks=tuple(
            BlockConfig(channels=(width, width), kernel_size=3, stride=1 if index else first_stride, padding=1, pool=index not in unpooled)
            for index, width in enumerate(widths)
        ),
        class_block=ClassBlockConfig(hidden=(hidden,)),
        mlp_layers=1,
        in_channels=1,
        num_classes=10,
        image_size=28,
        batch_norm=True,
        class_map_relu=False,
        dropout=0.0,
        pool_rounding="ceil",
    )


_OWN = (
    ModelEntry(name="nin_small", config=_ours(32, 96, hidden=160, first_stride=2), source=_OURS),
    ModelEntry(name="nin_compact", config=_ours(32, 64, 64, 96, hidden=160, unpooled=(1, 3)), source=_OURS_COMPACT),
    ModelEntry(name="nin_deep", config=_ours(32, 32, 64, 64, 64, 96, hidden=96, unpooled=(0, 2, 3, 5)), source=_OURS_COMPACT),
    ModelEntry(name="nin_base", config=_ours(64, 64, 112, 112, 112, 144, 144, hidden=144, unpooled=(0, 2, 3, 5, 6)), source=_OURS_BASE),
    ModelEntry(name="nin_large", config=_ours(64, 64, 128, 128, 128, 240, 240, hidden=256, unpooled=(0, 2, 3, 5, 6)), source=_OURS_LARGE),
)

_BY_NAME = {entry.name: entry for entry in (*_PUBLISHED, *_OWN)}


def list_models() -> tuple[str, ...]:
    """Names that `create_model` takes, published networks first."""
    return tuple(_BY_NAME)


def model_entry(name: str) -> ModelEntry:
    """The entry of a named network.

    Raises:
        TypeError: the name is no text.
        ValueError: no network has that name; the message lists the nearest ones.
    """
    if not isinstance(name, str):
        raise TypeError(f"a network's name is text, and not of type {type(name).__name__}; the networks: {', '.join(_BY_NAME)}")
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        if name in list_weights():
            hint = f"it is trained weights of {weights_entry(name).network}: torchnin.load({name!r}), or nin train --weights {name}; "
        if (base := name.partition(":")[0]) in _BY_NAME:
            hint = (
                f"variants are written so for the command nin, and in Python create_model({base!r}, FIELD=VALUE), whose .config a training "
                "builds for its data; "
            )
        raise ValueError(f"no network is named {name!r}; {hint}the networks: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def create_model(name: str, *, pretrained: bool | str = False, **changes: Any) -> NiN:
    """Build a named network, with fresh weights or with those that ship.

    Trained weights know pictures that were prepared as theirs were: `torchnin.load(WEIGHTS)` is the same network together with that
    preprocessing and its class names. Its `config.image_size` is that of the pictures that they learned from.

    Args:
        name: one of `list_models()`.
        pretrained: True fills in the weights that ship for this network with these channels and classes, where several do the
            first by name; a name of `list_weights()` those.
        **changes: fields of `NiNConfig` to change, such as `in_channels`, `num_classes`, `mlp_layers`, `class_map_relu`.

    Returns:
        The network, in training mode, float32, on the default device.

    Raises:
        TypeError: a name is no text.
        ValueError: the name or a field is unknown, a value is out of range, or weights are asked for that do not ship or do not
            fit the changes.
    """
    config = model_entry(name).config
    fields = [field.name for field in dataclasses.fields(config)]
    for field in changes:
        if field not in fields:
            near = difflib.get_close_matches(field, fields, n=1)
            hint = f" did you mean {near[0]}?" if near else ""
            if field == "class_hidden":  # the commands' word
                hint = " in Python it is hidden in class_block, a ClassBlockConfig;"
            raise ValueError(f"a NiN has no field {field!r};{hint} its fields: {', '.join(fields)}")
    network = NiN(dataclasses.replace(config, **changes))
    if pretrained:
        entry = fill(network, name, None if pretrained is True else pretrained)
        if "image_size" not in changes:
            network.config = dataclasses.replace(network.config, image_size=entry.config.image_size)
    return network
