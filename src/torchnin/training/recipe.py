"""How to train: every number of a training in one frozen object, and the recipes by name."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torchnin.data import Augmentation
from torchnin.models import NiNConfig
from torchnin.values import real, switch, whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training but the network, the data and the seed.

    What is left out is as in `steady`, which trains networks with and without normalisation; but pictures are not mirrored, and few of
    them get no more epochs.
    """

    num_epochs: int = 10
    """Passes over the training pictures."""
    batch_size: int = 128
    """Pictures in a step."""
    min_batches: int = 0
    """Where an epoch would have fewer batches, the batch is halved, down to 32 pictures; the learning rates stay (docs/lab-log.md)."""
    min_steps: int = 0
    """Where the training would have fewer steps, it has more epochs."""
    optimizer: Literal["sgd", "muon"] = "muon"
    """SGD for everything, or Muon for the convolutions between the first and the last and SGD for the rest."""
    lr: float = 0.005
    """SGD's learning rate at its highest; that of a fully connected head's weights is it divided by the pixels of a class map."""
    muon_lr: float = 0.05
    """Muon's learning rate at its highest."""
    muon_momentum: float = 0.6
    """Muon's momentum, in Nesterov's form."""
    keep_norms: bool = True
    """Bring every weight that Muon trains back to the norm that it began with, after every step."""
    momentum: float = 0.9
    """SGD's momentum; Nesterov's form where it is above 0."""
    weight_decay: float = 5e-4
    """L2 penalty on the weights that SGD trains, where the optimizer is `muon` those of the first and the last convolution and of linear
    layers; never on biases and norms, nor on what Muon trains."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """What the learning rate does after the warm-up: stay, or fall to zero."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises from zero, in [0, 1)."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes, in [0, 1)."""
    thinning: float = 0.0
    """Probability with which a picture that is found easy is left out of a pass, in [0, 1); see `Thinning`."""
    class_weights: bool = False
    """Weigh each class by the inverse of its count, so that rare classes count as much as common ones."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient of all parameters together; None leaves it as it is."""
    ema_decay: float = 0.0
    """Decay per step of the running mean of the weights that becomes the classifier; 0 takes the last weights."""
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    """What is changed at random in the training pictures."""
    initialisation: Literal["as built", "he", "xavier", "alive"] | None = None
    """Weights at the start: see `initialise`. None is `alive`, and `as built` where the weights were read in, trained or set."""
    level_class_maps: bool = True
    """Where the start is `alive`: no weights lift or lower a class map for all pictures alike; see `level_class_maps`."""
    image_size: int | None = None
    """Side in pixels to which pictures are resized before the network; None leaves the dataset's size, and takes the network's where its
    layers leave too little of such pictures or its fully connected head is for another size."""
    normalise: bool = True
    """Subtract the mean of the training pixels and divide by their standard deviation; False leaves them in [0, 1]."""

    def __post_init__(self) -> None:
        for name, kind, low, high, meaning in _RANGES:
            given = getattr(self, name)
            if given is None and name in _MAY_BE_NONE:
                continue
            value = kind(name, given, meaning)
            if not (low <= value < high and math.isfinite(value)):
                raise ValueError(f"{name} is {given!r}; it is {meaning}")
            object.__setattr__(self, name, value)
        for name in _SWITCHES:
            object.__setattr__(self, name, switch(name, getattr(self, name)))
        for name, accepted in _CHOICES.items():
            if (value := getattr(self, name)) not in accepted and not (value is None and name in _MAY_BE_NONE):
                raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
        if not isinstance(self.augmentation, Augmentation):
            raise ValueError(f"augmentation is {self.augmentation!r}; accepted: an Augmentation")
        for name in ("lr", "muon_lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    def lr_share(self, step: int, num_steps: int) -> float:
        """The learning rate of a step (from 0) in a training of `num_steps` steps, as a share of its highest."""
        rise = self.warmup * num_steps
        if step + 1 < rise:
            return (step + 1) / rise
        if self.schedule == "constant":
            return 1.0
        left = 1 - (step + 1 - rise) / max(1.0, num_steps + 1 - rise)
        return left if self.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)

    def lr_at(self, step: int, num_steps: int) -> float:
        """SGD's learning rate in a step."""
        return self.lr * self.lr_share(step, num_steps)

    def changed(self, **given: Any) -> "Recipe":
        """The recipe with other values in fields of its own or of its augmentation, which hold however few the pictures are."""
        if "num_epochs" in given:
            given["min_steps"] = 0
        if "batch_size" in given:
            given["min_batches"] = 0
        moved = {field.name: given.pop(field.name) for field in dataclasses.fields(Augmentation) if field.name in given}
        return dataclasses.replace(self, augmentation=dataclasses.replace(self.augmentation, **moved), **given)

    def fitted(self, *, num_pictures: int, mirror: bool) -> "Recipe":
        """The recipe with what it leaves to the data decided: batch size and epochs where pictures are few, and whether to flip.

        Args:
            num_pictures: to learn from.
            mirror: whether a mirrored picture still belongs to its class.
        """
        recipe = self
        while num_pictures < recipe.min_batches * recipe.batch_size and recipe.batch_size >= 2 * _SMALLEST_BATCH:
            recipe = dataclasses.replace(recipe, batch_size=recipe.batch_size // 2)
        batches = max(1, num_pictures // recipe.batch_size)
        recipe = dataclasses.replace(
            recipe, num_epochs=max(recipe.num_epochs, math.ceil(recipe.min_steps / batches)), min_batches=0, min_steps=0
        )
        if recipe.augmentation.flip != "auto":
            return recipe
        return dataclasses.replace(recipe, augmentation=dataclasses.replace(recipe.augmentation, flip=mirror))

    @property
    def gentler(self) -> str:
        """Smaller steps, as the flags that make them."""
        if self.optimizer == "muon":
            return f"a lower --lr and --muon-lr (now {self.lr:g} and {self.muon_lr:g})"
        return f"a lower --lr (now {self.lr:g})"

    @property
    def remedy(self) -> str:
        """What to do where a training by this recipe does not learn, in a few words."""
        if self.initialisation in ("alive", None):
            return f"try {self.gentler}"
        steady = "use --recipe steady, whose start keeps the class maps alive"
        # From the notebooks' start smaller steps do not learn, either (docs/why-nin-fails.md).
        return steady if self.initialisation == "xavier" else f"{steady}, or {self.gentler}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to a run's `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is unknown or out of range.
        """
        try:
            return cls(**{**_UNRECORDED, **values, "augmentation": Augmentation(**values.get("augmentation", {}))})
        except TypeError as error:
            raise ValueError(f"this is no recipe: {error}; expected the fields of Recipe") from error


_SMALLEST_BATCH = 32
_LARGEST = math.nextafter(1e30, math.inf)  # the first that is not taken: weights are float32, which has nothing from 3.4e38
_MAY_BE_NONE = ("clip_norm", "image_size", "initialisation")
# What a recipe did that was recorded before it had the field.
_UNRECORDED = {"optimizer": "sgd", "keep_norms": False, "level_class_maps": False}
_RANGES: tuple[tuple[str, Callable[[str, Any, str], int | float], float, float, str], ...] = (
    ("num_epochs", whole, 1, 10**9, "a whole number of epochs, at least 1 and below a billion"),
    ("min_batches", whole, 0, 10**9, "a whole number of batches, at least 0 and below a billion"),
    ("min_steps", whole, 0, 10**9, "a whole number of steps, at least 0 and below a billion"),
    ("batch_size", whole, 1, 10**9, "a whole number of pictures, at least 1 and below a billion"),
    ("lr", real, 0, _LARGEST, "a learning rate, above 0 and at most 1e30"),
    ("muon_lr", real, 0, _LARGEST, "a learning rate, above 0 and at most 1e30"),
    ("muon_momentum", real, 0, 1, "at least 0 and below 1"),
    ("momentum", real, 0, 1, "at least 0 and below 1"),
    ("weight_decay", real, 0, _LARGEST, "at least 0 and at most 1e30"),
    ("warmup", real, 0, 1, "a share of all steps, at least 0 and below 1"),
    ("label_smoothing", real, 0, 1, "a share, at least 0 and below 1"),
    ("thinning", real, 0, 1, "a probability, at least 0 and below 1"),
    ("clip_norm", real, math.ulp(0.0), _LARGEST, "a norm, above 0 and at most 1e30, or None"),
    ("ema_decay", real, 0, 1, "at least 0 and below 1"),
    ("image_size", whole, 1, 8193, "a whole number of pixels, 1 to 8192, as for folders of pictures"),
)
_SWITCHES = ("keep_norms", "class_weights", "level_class_maps", "normalise")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": ("sgd", "muon"),
    "schedule": ("constant", "linear", "cosine"),
    "initialisation": ("as built", "he", "xavier", "alive"),
}

D2L = Recipe(
    num_epochs=10,
    batch_size=128,
    optimizer="sgd",
    lr=0.1,
    keep_norms=False,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
    warmup=0.0,
    clip_norm=None,
    initialisation="xavier",
    level_class_maps=False,
    image_size=224,
    normalise=False,
)
"""The notebooks' procedure, exactly: pictures resized to 224 pixels and left in [0, 1], Xavier-uniform weights, plain SGD.

`nin train --recipe d2l --dtype float32`. Of 126 public runs of it 46 % reach 85 % on the test pictures and 7 % never learn.
Source: Dive into Deep Learning, section 8.3.3 (zh 7.3.3), `train_ch6`.
"""

STEADY = Recipe(
    num_epochs=10,
    batch_size=128,
    min_batches=50,
    min_steps=800,
    optimizer="muon",
    lr=0.005,
    muon_lr=0.05,
    keep_norms=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup=0.05,
    clip_norm=1.0,
    augmentation=Augmentation(flip="auto"),
    initialisation="alive",
    level_class_maps=True,
)
"""For the published networks as they are, ReLU on the class maps included.

`nin train --model nin_d2l`. The class maps start alive, each at a mean of a half, and Muon moves the convolutions by as much however small
the gradient is that comes through twelve ReLUs, and keeps their norms, which nothing else would hold; the first and the last convolution
learn by SGD, at a rate at which class maps of many channels do not all fall below zero together. Judged on held-out train pictures after
211 steps of the narrow network of docs/why-nin-fails.md, 67 pixels, three seeds: .736 (.685 to .753); with SGD alone at .02: .483 (.247 to
.559); the notebooks' recipe: .100 (.100 to .196). What each ingredient does stands there too (benchmarks/every_seed/cure.py). The
published network, ten epochs at its own 224 pixels, five seeds: test accuracy 93.94 % (93.59 to 94.18; benchmarks/records).
"""

FAST = Recipe(
    num_epochs=10,
    batch_size=512,
    min_batches=50,
    min_steps=800,
    optimizer="muon",
    lr=0.15,
    muon_lr=0.07,
    muon_momentum=0.6,
    keep_norms=False,
    weight_decay=5e-4,
    schedule="linear",
    warmup=0.2,
    label_smoothing=0.05,
    thinning=0.6,
    clip_norm=None,
    augmentation=Augmentation(flip="auto", shift=1),
    initialisation="he",
    level_class_maps=False,
)
"""For our own networks, which normalise and whose class maps have no ReLU: most accuracy in three minutes on two cores.

`nin train`: `nin_small` on Fashion-MNIST, test accuracy 92.64 % (mean of 3 seeds, 92.50 to 92.88) in 28 s, everything included, on two
cores of an Intel Xeon with AMX, bfloat16, torch 2.13; on two of a Zen 3 (AVX2), float32, 92.71 % in 152 to 166 s. `nin train cifar-10`:
82.09 % (one seed) in 33 s, and 81.62 % in 210 s. Measured by benchmarks/first_training/measure.py.
"""

LONG = dataclasses.replace(
    FAST, num_epochs=48, batch_size=256, keep_norms=True, augmentation=dataclasses.replace(FAST.augmentation, erase=0.25)
)
"""For our own networks, where there is time: `fast` for more epochs in smaller batches, with rectangles erased and the weights' norms kept.

`nin train --recipe long --model nin_deep`. Of 10,000 held-out pictures of Fashion-MNIST 95.38 % after 32 epochs, where `fast` with batches
of 256 and the same erasing had 94.97 % after 16, and the norms kept for 16 epochs 94.83 % (one seed each, docs/lab-log.md; the first is
`--num-epochs 32 --validation 0.1667`). As it is, on all pictures: 94.96 % of the test pictures; with `--num-epochs 64
--muon-lr 0.1` 95.01 % (one seed each), with `--num-epochs 128 --muon-lr 0.1 --erase 0.5` 95.07 % (mean of seeds 0 to 2), by SGD as
long, whose weights ship as `fashion-mnist-deep`, 95.24 % (mean of seeds 0 to 4; benchmarks/records).
"""

RECIPES = {"fast": FAST, "long": LONG, "steady": STEADY, "d2l": D2L}


def named_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        TypeError: the name is no text.
        ValueError: no recipe has that name; the message lists the nearest ones.
    """
    if not isinstance(name, str):
        raise TypeError(f"a recipe's name is text, and not of type {type(name).__name__}; the recipes: {', '.join(RECIPES)}")
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise ValueError(f"no recipe is named {name!r};{f' did you mean {near[0]}?' if near else ''} the recipes: {', '.join(RECIPES)}")
    return RECIPES[name]


def recipe_for(config: NiNConfig) -> Recipe:
    """The recipe that a network is trained with when none is named: `fast` with batch normalisation, `steady` without."""
    return FAST if config.batch_norm else STEADY
