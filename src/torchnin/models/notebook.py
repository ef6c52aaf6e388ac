"""Weights of the notebooks' `nn.Sequential` in our names, and back; only keys change, never a number."""

from collections.abc import Mapping

from torch import Tensor

# Position in the notebooks' Sequential -> our part. Positions 1, 3, 5 are pooling, 6 is dropout, 8 and 9 are GAP and Flatten.
_PARTS = {"0": "body.0", "2": "body.2", "4": "body.4", "7": "class_block"}
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
        ValueError: a key is not one of that network's, or one is missing.

    Source: Dive into Deep Learning, section 8.3.2 (zh 7.3.2).
    """
    plain = {_without_wrappers(key): value for key, value in state_dict.items()}
    expected = {f"{block}.{layer}.{kind}" for block in _PARTS for layer in (0, 2, 4) for kind in ("weight", "bias")}
    if plain.keys() != expected:
        unknown, missing = sorted(plain.keys() - expected), sorted(expected - plain.keys())
        raise ValueError(
            "these are not the weights of the notebooks' NiN: "
            + "; ".join(
                f"{what} {', '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}"
                for what, keys in (("unknown key", unknown), ("missing", missing))
                if keys
            )
            + "; expected 0.0.weight, 0.0.bias, 0.2.weight, ... 7.4.bias"
        )
    return {f"{_PARTS[key.split('.')[0]]}.{key.split('.', 1)[1]}": plain[key] for key in plain}


def to_notebook(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `from_notebook`: a state dict of `nin_d2l` that the notebooks' `net.load_state_dict` takes.

    Raises:
        ValueError: the state dict is not one of `nin_d2l`'s.
    """
    positions = {part: position for position, part in _PARTS.items()}
    result = {}
    for key, value in state_dict.items():
        part, _, layer = key.removesuffix(".weight").removesuffix(".bias").rpartition(".")
        if part not in positions or layer not in {"0", "2", "4"}:
            raise ValueError(f"{key} has no place in the notebooks' NiN; only weights of nin_d2l, as published, can be written back")
        result[f"{positions[part]}.{layer}.{key.rpartition('.')[2]}"] = value
    return result


def _without_wrappers(key: str) -> str:
    while any(key.startswith(prefix) for prefix in _WRAPPERS):
        key = key.split(".", 1)[1]
    return key
