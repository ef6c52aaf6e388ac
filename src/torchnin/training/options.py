"""How a training is carried out, apart from what it is a training of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from torchnin.values import switch, whole

OnCollapse = Literal["warn", "stop", "recover"]
OnOutOfMemory = Literal["accumulate", "stop"]
_PIECES = "a whole number of pieces, at least 1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What may be given anew when a run is resumed, see `train`; what is not given anew stays as it was."""

    device: str = "auto"
    """As it was asked for, not what came of it: `auto` looks anew on the machine that the run goes on on."""
    on_collapse: OnCollapse = "warn"
    on_out_of_memory: OnOutOfMemory = "accumulate"
    accumulate: int | None = None
    deterministic: bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name, accepted in (("on_collapse", get_args(OnCollapse)), ("on_out_of_memory", get_args(OnOutOfMemory))):
            if (value := getattr(self, name)) not in accepted:
                raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
        object.__setattr__(self, "compile", switch("compile", self.compile))
        if self.deterministic is not None:
            object.__setattr__(self, "deterministic", switch("deterministic", self.deterministic))
        if not isinstance(self.device, str):
            raise ValueError(f"device is {self.device!r}; it is a name such as 'cpu', or 'auto'")
        if self.accumulate is not None:
            object.__setattr__(self, "accumulate", whole("accumulate", self.accumulate, _PIECES))
            if self.accumulate < 1:
                raise ValueError(f"accumulate is {self.accumulate}; it is {_PIECES}")

    @classmethod
    def of_run(cls, config: Mapping[str, Any]) -> "Options":
        """Those that a run's `config.json` records; runs of earlier versions record none."""
        return cls(**config.get("options", {}))

    def given_anew(self, **given: Any) -> "Options":
        """These with what is given; None gives nothing."""
        if given.get("device") is not None:
            given["device"] = str(given["device"])  # a torch.device is welcome
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.json`."""
        return dataclasses.asdict(self)
