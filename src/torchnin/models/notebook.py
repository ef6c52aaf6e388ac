"""Weights of the notebooks' `nn.Sequential` in our names, and back; only keys change, never a number."""

from collections.abc import Collection, Mapping

from torch import Tensor

# Position in the notebooks' Sequential -> our part. Positions 1, 3, 5 are pooling, 6 is dropout, 8 and 9 are GAP and Flatten.
_PARTS = {"0": "body.0", "2": "body.2", "4": "body.4", "7": "class_block"}
_LAYERS = (0, 2, 4)
# Width and kernel of the blocks in the body; the class block is as wide as there are classes.
_GEOMETRY = ((96, 11), (256, 5), (384, 3))
# The 1.0 edition holds the Sequential in `self.net`; DistributedDataParallel and torch.compile wrap it.
_WRAPPERS = ("module.", "_orig_mod.", "net.")


def from_notebook(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a state dict of the notebooks' network into one that `create_model("nin_d2l")` loads.

    Args:
        state_dict: keys `0.0.weight`, `0.0.bias`, `0.2.weight`, ... `7.4.bias` (block, layer in block), as
            `torch.save(net.state_dict())` wrote them; `net.`, `module.` and `_orig_mod.` in front are understood.

    Returns:
        The same tensors under this package's names.

    Raises:
        TypeError: it is no state dict.
        ValueError: a key is not one of that network's, or one is missing.

    Source: Dive into Deep Learning, section 8.3.2 (zh 7.3.2).
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict is of type {type(state_dict).__name__}; expected what torch.save(net.state_dict()) wrote, loaded")
    plain = {_without_wrappers(key): value for key, value in state_dict.items()}
    if wrong := _other_keys(plain, {f"{block}.{layer}" for block in _PARTS for layer in _LAYERS}):
        expected = "0.0.weight, 0.0.bias, 0.2.weight, ... 7.4.bias"
        raise ValueError(f"these are not the weights of the notebooks' NiN: {wrong}; expected {expected}")
    return {f"{_PARTS[key.split('.')[0]]}.{key.split('.', 1)[1]}": plain[key] for key in plain}


def to_notebook(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_notebook`: a state dict of `nin_d2l` that the notebooks' `net.load_state_dict` takes.

    Raises:
        ValueError: the state dict is not one of `nin_d2l`'s.
    """
    names = {f"{part}.{layer}": f"{position}.{layer}" for position, part in _PARTS.items() for layer in _LAYERS}
    wrong = _other_keys(state_dict, names) or _other_shapes(state_dict)
    if wrong:
        raise ValueError(f"{wrong}: this has no place in the notebooks' NiN; only weights of nin_d2l, as published, can be written back")
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state_dict.items()}


def _other_keys(state_dict: Mapping[str, Tensor], layers: Collection[str]) -> str:
    """How the keys differ from those of these layers' weights and biases; empty where they do not."""
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    unknown, missing = sorted(state_dict.keys() - expected), sorted(expected - state_dict.keys())
    return "; ".join(
        f"{what} {', '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}"
        for what, keys in (("unknown key", unknown), ("missing", missing))
        if keys
    )


def _other_shapes(state_dict: Mapping[str, Tensor]) -> str:
    """The first weights whose shape is not that of `nin_d2l`'s, for any channels and classes, empty where there are none."""
    channels, classes = state_dict["body.0.0.weight"].shape[1], len(state_dict["class_block.4.bias"])
    before = channels
    for part, (width, kernel) in zip(_PARTS.values(), (*_GEOMETRY, (classes, 3)), strict=True):
        for layer in _LAYERS:
            wanted = {"weight": (width, before, kernel, kernel), "bias": (width,)}
            for kind, shape in wanted.items():
                if (found := tuple(state_dict[f"{part}.{layer}.{kind}"].shape)) != shape:
                    return f"{part}.{layer}.{kind} is {found}, not {shape}"
            before, kernel = width, 1
    return ""


def _without_wrappers(key: str) -> str:
    while any(key.startswith(prefix) for prefix in _WRAPPERS):
        key = key.split(".", 1)[1]
    return key
