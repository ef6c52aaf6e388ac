"""Network in Network: NiN blocks, pooling between them, one class map per class, and their means as logits."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy

from .block import NiNBlock
from .config import POOL_KERNEL, POOL_STRIDE, NiNConfig
from .dropout import Dropout
from .shortcuts import computes_as, is_heard, run

# As many values of every parameter are remembered, to see whether the weights are still those that the network was built with.
_REMEMBERED = 16


class NiN(nn.Module):
    """A Network in Network of the given configuration.

    Input: pictures `(n, in_channels, h, w)`, float, preprocessed; any `h` and `w` of at least `config.min_image_size`, but with a fully
    connected head that of `config.image_size`.
    Output: logits `(n, num_classes)`.

    The three parts are `body` (blocks, pooling, dropout), `class_block` (the last block, ending in one class map per class)
    and `head` (global average pooling: the mean of each class map is that class's logit). The methods keep timm's contract
    for image models: `forward_features`, `forward_head`, `reset_classifier`, `num_features`.

    Source: Lin, Chen, Yan, "Network In Network" (arXiv 1312.4400).
    """

    def __init__(self, config: NiNConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = config.in_channels
        pool = nn.MaxPool2d if config.pool == "max" else nn.AvgPool2d
        drop = Dropout if config.dropout_kind == "element" else nn.Dropout2d
        for index, block in enumerate(config.blocks):
            layers.append(
                NiNBlock(
                    channels,
                    block.widths(config.mlp_layers),
                    block.kernel_size,
                    block.stride,
                    block.padding,
                    mlp_kernel_size=config.mlp_kernel_size,
                    batch_norm=config.batch_norm,
                )
            )
            if block.pool:
                layers.append(pool(kernel_size=POOL_KERNEL, stride=POOL_STRIDE, ceil_mode=config.pool_rounding == "ceil"))
            if config.dropout > 0 and (index == len(config.blocks) - 1 or (config.dropout_at == "every" and block.pool)):
                layers.append(drop(config.dropout))
            channels = block.channels[-1]
        self.body = nn.Sequential(*layers)
        self.num_features = channels
        self._build_classifier()
        self.pretrained = False
        self.register_load_state_dict_pre_hook(_note_read)

    @property
    def pretrained(self) -> bool:
        """Whether its weights are not those that it was built with: read in (`load_state_dict`), trained, or set in place (`nn.init`).

        A training goes on from such weights by default. Set to False it takes the weights of now for those that it was built with.
        """
        if self._pretrained:
            return True
        built = self._built_with
        return not all(_is_as_remembered(parameter, built[name]) for name, parameter in self.named_parameters() if name in built)

    @pretrained.setter
    def pretrained(self, pretrained: bool) -> None:
        self._pretrained = pretrained
        self._built_with = {name: _remembered(parameter) for name, parameter in self.named_parameters()}

    def _build_classifier(self) -> None:
        config, last = self.config, self.config.class_block
        self.num_classes = config.num_classes
        self.min_image_size = config.min_image_size
        self.class_block = NiNBlock(
            self.num_features,
            last.widths(config.mlp_layers, config.num_classes),
            last.kernel_size,
            last.stride,
            last.padding,
            mlp_kernel_size=config.mlp_kernel_size,
            batch_norm=config.batch_norm,
            last_activation=config.class_map_relu,
        )
        if config.head == "gap":
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())
        else:
            side = config.map_size(config.image_size)
            if side is None:
                raise ValueError(_too_small(config.image_size, config.image_size, config.min_image_size))
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(config.num_classes * side * side, config.num_classes))

    def forward(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits of a batch of preprocessed pictures.

        Raises:
            ValueError: the pictures have another number of channels than the network, are too small for its layers, or of another size
                than its fully connected head is for.
        """
        return self.forward_head(self.forward_features(pictures))

    def forward_features(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f y x"]:
        """What enters the last block: `num_features` channels, spatial.

        Raises:
            ValueError: the pictures have another number of channels than the network, or are too small for its layers.
        """
        self.check_pictures(pictures)
        return self._trained_body(pictures) if self.training and not isinstance(pictures, Proxy) else self.body(pictures)

    def check_pictures(self, pictures: Float[Tensor, "n c h w"]) -> None:
        """Whether the network admits such pictures.

        Raises:
            ValueError: the pictures have no batch dimension, another number of channels than the network, or are too small for its layers.
        """
        if isinstance(pictures, Proxy):  # torch.fx asks what is done with pictures, and shows none
            return
        if pictures.dim() != 4:
            raise ValueError(f"the pictures have shape {tuple(pictures.shape)}; expected (batch, channels, height, width)")
        channels, height, width = pictures.shape[1:]
        if channels != self.config.in_channels:
            raise ValueError(f"the pictures have {channels} channels; this network takes {self.config.in_channels}")
        if min(height, width) < self.min_image_size:
            raise ValueError(_too_small(height, width, self.min_image_size))

    def check_size(self, height: int, width: int) -> None:
        """Whether the network makes logits of pictures of that size, in pixels.

        Raises:
            ValueError: they are too small for its layers, or its fully connected head is for class maps of another size.
        """
        if min(height, width) < self.min_image_size:
            raise ValueError(_too_small(height, width, self.min_image_size))
        rows, columns = self.config.map_size(height), self.config.map_size(width)
        assert rows is not None
        assert columns is not None
        self.check_maps(rows, columns)

    def check_maps(self, rows: int, columns: int) -> None:
        """Whether the head takes class maps of that size.

        Raises:
            ValueError: it is fully connected, and for class maps of another size.
        """
        config = self.config
        if config.head == "fc" and (rows, columns) != ((side := config.map_size(config.image_size)), side):
            raise ValueError(
                f"this network's fully connected head takes class maps of {side}x{side}, which pictures of {config.image_size}x"
                f"{config.image_size} pixels give, and not {rows}x{columns}: resize the pictures to that size, or build the network with "
                "head='gap', which takes any, or with their image_size"
            )

    def parts(self) -> list[nn.Module]:
        """What runs one after the other, up to the class maps: the body's layers, or a module that was put in its place; the last block."""
        return [*(self.body if computes_as(self.body, nn.Sequential) else [self.body]), self.class_block]

    def _trained_body(self, features: Tensor) -> Tensor:
        """`body`, with each max pooling moved before the ReLU that stands before it, which saves time where gradients are kept.

        Blocks without hooks are run as one row of layers, because `passes` computes layers of neighbouring blocks together. Pooling stays
        behind a block that does not end in a ReLU, and where hooks would see the difference.
        """
        if not computes_as(self.body, nn.Sequential) or _is_heard(self.body):
            own: Tensor = self.body(features)
            return own
        layers = list(self.body)
        together: list[nn.Module] = []  # what runs one after the other, layer by layer
        while layers:
            layer = layers.pop(0)
            if not computes_as(layer, NiNBlock):
                together.append(layer)
                continue
            pool = layers.pop(0) if layers and computes_as(layers[0], nn.MaxPool2d) and _commute(layer, layers[0]) else None
            if type(layer) is NiNBlock and not is_heard(layer):
                together += layer.layers(pool)
            else:
                features, together = layer(run(together, features), pool=pool), []
        return run(together, features)

    def class_maps(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """One map per class. With global average pooling `class_maps(x).mean((2, 3))` are the logits, exactly."""
        return self.class_block(self.forward_features(pictures))

    def forward_head(self, features: Float[Tensor, "n f y x"], pre_logits: bool = False) -> Float[Tensor, "n k"] | Float[Tensor, "n f"]:
        """From the body's features to logits; with `pre_logits`, the features' means `(n, num_features)` for use elsewhere.

        Raises:
            ValueError: the head is fully connected and for class maps of another size.
        """
        if pre_logits:
            return features.mean((2, 3))
        maps = self.class_block(features)
        if not isinstance(maps, Proxy):
            self.check_maps(*maps.shape[2:])
        logits: Tensor = self.head(maps)
        return logits

    def get_classifier(self) -> nn.Module:
        """The part that depends on the classes: the last block."""
        return self.class_block

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last block by a fresh one for `num_classes` classes, on the same device and in the same dtype."""
        like = next(self.parameters())
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        self._build_classifier()
        self.class_block.to(like.device, like.dtype).train(self.training)
        self.head.to(like.device, like.dtype).train(self.training)
        fresh = {name: _remembered(parameter) for name, parameter in self.named_parameters() if not name.startswith("body.")}
        self._built_with = {name: values for name, values in self._built_with.items() if name.startswith("body.")} | fresh


def _remembered(parameter: nn.Parameter) -> Tensor:
    values = parameter.detach().flatten()[:_REMEMBERED].clone()
    return values if values.is_meta else values.cpu()


def _is_as_remembered(parameter: nn.Parameter, remembered: Tensor) -> bool:
    """Also where the network was moved to another device or dtype meanwhile; without values (meta) it has none but those to come."""
    if parameter.is_meta or remembered.is_meta:
        return parameter.is_meta
    now = _remembered(parameter)
    return now.shape == remembered.shape and torch.allclose(now, remembered.to(now.dtype), rtol=0, atol=0, equal_nan=True)


def _is_heard(module: nn.Module) -> bool:
    """Whether hooks are told of a module's values; one with a true `takes_pooled` does not mind pooling before ReLU."""
    if module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks or torch.nn.modules.module._has_any_global_hook():
        return True
    return any(not getattr(hook, "takes_pooled", False) for hook in module._forward_hooks.values())


def _commute(block: NiNBlock, pool: nn.MaxPool2d) -> bool:
    """Whether the ReLU that a block ends with may come behind the pooling that follows it."""
    return computes_as(block[-1], nn.ReLU) and not any(map(_is_heard, (block, block[-1], pool)))


def _note_read(network: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Before `load_state_dict`, its own or that of a module around it; where no name fits nothing is read."""
    assert isinstance(network, NiN)
    if any(prefix + name in state_dict for name, _ in network.named_parameters()):
        network.pretrained = True


def _too_small(height: int, width: int, least: int) -> str:
    return (
        f"a picture of {height}x{width} pixels is too small for this network: its layers leave nothing of it; "
        f"the smallest is {least}x{least}"
    )
