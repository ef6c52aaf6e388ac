"""The named networks in timm: importing this module registers them, and needs timm (`pip install 'torchnin[timm]'`).

    import timm
    import torchnin.integrations.timm

    timm.create_model("nin_small", num_classes=7, in_chans=3)
    timm.create_model("nin_small.fashion_mnist_small", pretrained=True)     # weights that come with torchnin

timm brings its own training, data pipelines and optimizers; the weights are those of the same network in torchnin, by the same names.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchnin.data import Preprocessing
from torchnin.models import NiN, NiNConfig, list_models, list_weights, model_entry, weights_entry

try:
    from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the networks in timm need {missing.name}, which is not installed: pip install 'torchnin[timm]'", name=missing.name
    ) from missing

__all__ = ["TimmNiN"]


class TimmNiN(NiN):
    """A `NiN` as timm makes its models: built from timm's keywords, and a backbone where it has no classes.

    Input: pictures `(n, in_chans, h, w)`, normalised. Output: logits `(n, num_classes)`; with `num_classes=0` the means of the body's
    features, `(n, num_features)`, and with `global_pool=""` besides the features themselves, `(n, num_features, y, x)`.

    Args:
        cfg: the named network.
        num_classes: 0 leaves out the last block.
        in_chans: channels of a picture.
        drop_rate: dropout; None leaves the network's own.
        global_pool: `avg`, or `""` for a backbone that pools nothing.
        device, dtype: where the weights lie, and in what.
        **changes: fields of `NiNConfig` to change, such as `mlp_layers`.

    Raises:
        ValueError: a value is out of range, or a network with classes is to pool nothing: its class maps are `class_maps`.
        TypeError: there is no such field.
    """

    def __init__(
        self,
        cfg: NiNConfig,
        num_classes: int = 10,
        in_chans: int = 1,
        drop_rate: float | None = None,
        global_pool: str = "avg",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **changes: Any,
    ) -> None:
        if drop_rate is not None:
            changes["dropout"] = drop_rate
        super().__init__(dataclasses.replace(cfg, num_classes=max(1, num_classes), in_channels=in_chans, **changes))
        self.global_pool = global_pool
        self.head_hidden_size = self.num_features
        self.feature_info = _feature_info(self)
        _check_pool(global_pool, num_classes)
        if not num_classes:
            self.reset_classifier(0)
        self.to(device=device, dtype=dtype)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last block by a fresh one for `num_classes` classes; 0 takes it away."""
        pool = self.global_pool if global_pool is None else global_pool
        _check_pool(pool, num_classes)
        self.global_pool = pool
        super().reset_classifier(max(1, num_classes))
        if not num_classes:  # one was built for a single class, as a configuration has at least that
            del self.class_block, self.head
            self.num_classes = 0

    def get_classifier(self) -> nn.Module:
        """The part that depends on the classes: the last block, or nothing."""
        return self.class_block if self.num_classes else nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of a batch of normalised pictures, or what there is without classes."""
        return self.forward_head(self.forward_features(pictures))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """From the body's features to logits; where there are no classes, or with `pre_logits`, to the features' means."""
        if self.num_classes and not pre_logits:
            return super().forward_head(features)
        return features.mean((2, 3)) if self.global_pool else features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """What each block of the body makes of a batch of normalised pictures, before the pooling behind it.

        Args:
            x: the pictures `(n, in_chans, h, w)`.
            indices: which blocks, from 0, or below 0 from the last; a number takes so many of the last ones, None all.
            norm: part of timm's contract; no normalisation follows a NiN's body.
            stop_early: compute nothing behind the last of them.
            output_fmt: `NCHW`.
            intermediates_only: leave out the body's features.

        Returns:
            The body's features (with `stop_early` what it came to) and those of the blocks, `(n, width, y, x)`; or these alone.

        Raises:
            ValueError: there is no such block, or the format is another; or the pictures do not suit the network.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is {output_fmt!r}; accepted: 'NCHW'")
        self.check_pictures(x)
        places = [int(info["module"].removeprefix("body.")) for info in self.feature_info]
        count = len(places)
        if isinstance(indices, int):
            chosen: Sequence[int] = range(count)[-indices:] if 0 < indices <= count else ()
        else:
            chosen = range(count) if indices is None else indices
        if not chosen or not all(-count <= each < count for each in chosen):
            raise ValueError(f"indices is {indices!r}; the blocks are 0 to {count - 1}, and a number takes 1 to {count} of the last ones")
        taken = {places[each] for each in chosen}
        found = []
        for place, layer in enumerate(self.body):
            x = layer(x)
            if place in taken:
                found.append(x)
            if stop_early and place == max(taken):
                break
        return found if intermediates_only else (x, found)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters belong together, for learning rates that fall with depth: one group a block."""
        return {"stem": r"^body\.0\.", "blocks": r"^body\.(\d+)\."}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Part of timm's contract; a NiN is shallow and has none.

        Raises:
            AssertionError: it is asked for, as timm's own models without it say it.
        """
        assert not enable, "gradient checkpointing not supported"


def _check_pool(global_pool: str, num_classes: int) -> None:
    if global_pool not in ("avg", "") or (num_classes and not global_pool):
        raise ValueError(f"global_pool is {global_pool!r}; accepted: 'avg', which is what the logits are, and '' where num_classes is 0")


def _feature_info(network: NiN) -> list[dict[str, Any]]:
    """Of each block of the body its width, its step in pixels, and its place: what `features_only=True` gives."""
    blocks, info, step = iter(network.config.blocks), [], 1
    for place, layer in enumerate(network.body):
        if isinstance(layer, nn.Sequential):  # a block; pooling after it doubles the step for the next one
            block = next(blocks)
            step *= block.stride
            info.append({"num_chs": block.channels[-1], "reduction": step, "module": f"body.{place}"})
            step *= 2 if block.pool else 1
    return info


def _class_layers(network: NiN) -> tuple[str, ...]:
    """The layers whose weights are for as many classes as there are: those of the last block behind its hidden widths."""
    last, layers = (
        network.config.class_block,
        [name for name, layer in network.class_block.named_children() if isinstance(layer, nn.Conv2d)],
    )
    first = min(len(last.hidden), network.config.mlp_layers)
    return tuple(f"class_block.{name}" for name in layers[first:])


def _description(config: NiNConfig, preprocessing: Preprocessing | None = None, **facts: Any) -> dict[str, Any]:
    """What timm wants to know of a network, with or without weights."""
    with torch.device("meta"):
        network = NiN(config)
    channels, size, least = config.in_channels, config.image_size, network.min_image_size
    p = preprocessing or Preprocessing(channels=channels, height=size, width=size, mean=(0.5,) * channels, std=(0.5,) * channels)
    return {
        "input_size": (channels, p.height, p.width),
        "min_input_size": (channels, least, least),
        "fixed_input_size": config.head == "fc",
        "num_classes": config.num_classes,
        # The whole picture, stretched: the rule that torchnin has.
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": p.mean,
        "std": p.std,
        "pool_size": None,
        "first_conv": "body.0.0",
        "classifier": _class_layers(network),
        "license": "mit",
        "paper_ids": "arXiv:1312.4400",
        **facts,
    }


def _descriptions() -> dict[str, dict[str, Any] | PretrainedCfg]:
    """By timm's names, `network` and `network.weights`."""
    found: dict[str, dict[str, Any] | PretrainedCfg] = {}
    shipped = [weights_entry(name) for name in list_weights()]
    for name in list_models():
        weights = [entry for entry in shipped if entry.network == name]
        for entry in weights:
            described = json.loads((entry.folder / "config.json").read_text(encoding="utf-8"))
            found[f"{name}.{entry.name.replace('-', '_')}"] = _description(
                entry.config,
                Preprocessing.from_dict(described["preprocessing"]),
                file=str(entry.folder / "model.safetensors"),
                label_names=tuple(described["class_names"]),
                description=f"trained on {entry.data}, test accuracy {entry.test_accuracy:.2%}",
            )
        if not weights:
            found[name] = _description(model_entry(name).config)
    return found


def _fitted(state: Mapping[str, Tensor], network: TimmNiN) -> dict[str, Tensor]:
    """The weights under this network's names, without the last block where it has none.

    A dropout layer counts in the names of the blocks behind it, and `drop_rate=0` builds none.
    """
    there, here = ({int(name.split(".")[1]) for name in names if name.startswith("body.")} for names in (state, network.state_dict()))
    places = dict(zip(sorted(there), sorted(here), strict=True))
    found = {}
    for name, tensor in state.items():
        part, place, *rest = name.split(".")
        if part == "body":
            found[".".join(("body", str(places[int(place)]), *rest))] = tensor
        elif network.num_classes:
            found[name] = tensor
    return found


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    entry = model_entry(name)

    def build(pretrained: bool = False, **keywords: Any) -> nn.Module:
        network: nn.Module = build_model_with_cfg(
            TimmNiN,
            name,
            pretrained,
            model_cfg=entry.config,
            feature_cfg={"flatten_sequential": True, "out_indices": tuple(range(len(entry.config.blocks)))},
            pretrained_filter_fn=_fitted,
            **keywords,
        )
        if pretrained and isinstance(network, NiN):
            network.pretrained = True  # a training of torchnin's goes on from such weights
        return network

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"`{name}`: {entry.source}. Keywords as for `TimmNiN`, and timm's own."
    return build


default_cfgs = generate_default_cfgs(_descriptions())
for _name in list_models():
    globals()[_name] = register_model(_entrypoint(_name))  # which puts the name into __all__
