"""Flags that take one of a few words: an error lists them in their order, without the None that stands for a flag left out."""

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def choices() -> "ConstructorRegistry":
    """How such flags are read, for `tyro.cli(registry=...)`."""
    from tyro.constructors import ConstructorRegistry

    registry = ConstructorRegistry()
    registry.primitive_rule(_one_of)
    return registry


def _one_of(asked: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec[Any] | None":
    from tyro.constructors import PrimitiveConstructorSpec

    kinds = set(get_args(asked.type)) - {NoneType} if get_origin(asked.type) in (Union, UnionType) else {asked.type}
    if len(kinds) != 1 or get_origin(kind := kinds.pop()) is not Literal:
        return None
    values = {str(value): value for value in get_args(kind)}
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(values) + "}",
        instance_from_str=lambda words: values[words[0]],
        is_instance=lambda value: value is None or value in values.values(),
        str_from_instance=lambda value: [str(value)],
        choices=tuple(values),
    )
