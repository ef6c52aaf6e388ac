"""What a training starts from: network, data, recipe and preprocessing brought together and checked."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from torchnin.classifier import Classifier
from torchnin.data import DataError, DatasetSplits, ImageDataset, Preprocessing, derived_seed, load_dataset
from torchnin.data.dataset import listed
from torchnin.data.readers.folder import DEFAULT_SIZE
from torchnin.device import DeviceChoice
from torchnin.models import NiN, NiNConfig, model_entry, native, summarize
from torchnin.models.described import require_described
from torchnin.training.going_on import beginning, describe_beginning, going_on, network_for
from torchnin.training.options import Options
from torchnin.training.processes import Processes
from torchnin.training.provenance import describe_data, git_commit, hold_out, versions
from torchnin.training.recipe import Recipe, recipe_for
from torchnin.values import counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A training that has not begun."""

    name: str
    """What the records call the network."""
    network: NiN
    begins_from: Classifier | None
    """The classifier whose weights it goes on from."""
    splits: DatasetSplits
    learned: ImageDataset
    held_out: ImageDataset | None
    asked: Recipe
    """As it was asked for."""
    recipe: Recipe
    """The same, for as many pictures as there are."""
    preprocessing: Preprocessing
    seed: int
    validation: float
    choice: DeviceChoice

    def config(self, begun: dict[str, Any], options: Options, processes: Processes, *, deterministic: bool) -> dict[str, Any]:
        """What `config.json` says; `begun` is that of the run that goes on, empty where one begins."""
        compiled = native.compiled() if self.choice.device.type == "cpu" else None
        config = {
            "name": self.name,
            "network": self.network.config.to_dict(),
            "weights": {
                "dtype": str(next(self.network.parameters()).dtype).removeprefix("torch."),
                "frozen": [name for name, weight in self.network.named_parameters() if not weight.requires_grad],
            },
            "recipe": self.recipe.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "data": describe_data(self.splits, len(self.learned), 0 if self.held_out is None else len(self.held_out)),
            "seed": self.seed,
            "validation": self.validation,
            "device": {**self.choice.to_dict(), "native": compiled, "processes": processes.count, "deterministic": deterministic},
            "versions": versions(),
            "git_commit": git_commit(),
            "command": sys.argv,
            "options": options.to_dict(),
        }
        if self.begins_from is not None:
            config["begun_from"] = describe_beginning(self.begins_from, self.splits)
        elif "begun_from" in begun:
            config["begun_from"] = begun["begun_from"]
        elif not begun and self.network.pretrained and self.recipe.initialisation == "as built":
            config["begun_from"] = {"name": self.name, "data": None, "test_accuracy": None, "same_classes": True}
        return config

    def notes(self, processes: Processes, *, goes_on: bool) -> Iterator[str]:
        """What the user should know of it before the first step."""
        yield from self.splits.notes
        asked, recipe = self.asked, self.recipe
        if (recipe.batch_size, recipe.num_epochs) != (asked.batch_size, asked.num_epochs):
            yield (
                f"{len(self.learned):,} pictures are few for {counted(asked.num_epochs, 'epoch')} in batches of {asked.batch_size}: "
                f"{counted(recipe.num_epochs, 'epoch')} in batches of {recipe.batch_size}"
            )
        names, there = self.splits.class_names, self.splits.train.class_counts
        if missing := [name for name, count in zip(names, there, strict=True) if not count]:
            yield f"there is no picture to learn from of {len(missing)} of {len(names)} classes: {listed(missing)}"
        for what, judged in (("validation", self.held_out), ("test", self.splits.test)):
            if judged is None or len(judged) == 1:  # a single picture is of a single class, which needs no words
                continue
            if missing := [name for name, learned, count in zip(names, there, judged.class_counts, strict=True) if learned and not count]:
                yield (
                    f"there is no {what} picture of {len(missing)} of {len(names)} classes, of which the {what} accuracy says nothing: "
                    f"{listed(missing)}"
                )
        images, count = self.learned.images, len(self.learned)
        if count > 1 and all(np.array_equal(images[0], images[place]) for place in range(1, count)):
            yield f"all {count:,} pictures to learn from are the same one: there is nothing in them by which to tell classes apart"
        p, size = self.preprocessing, self.learned.image_size
        if recipe.image_size is None and p.height > size[0]:
            yield (
                f"pictures of {size[0]}x{size[1]} pixels are enlarged to {p.height}x{p.width}, for which the network is made; image_size "
                "(--image-size) takes another size"
            )
        if self.begins_from is not None:
            yield beginning(describe_beginning(self.begins_from, self.splits))
        if self.network.pretrained and recipe.initialisation != "as built" and not goes_on:
            yield f"the weights that were trained are drawn anew (initialisation {recipe.initialisation!r}); 'as built' goes on from them"
        elif self.network.pretrained and self.begins_from is None and not goes_on:
            yield "begins with the network's weights as they are, not those that it was built with; initialisation='alive' draws them anew"
        if not goes_on and self._may_die():
            yield (
                f"the class maps end in a ReLU, and started {recipe.initialisation!r} some or all may stay at zero, whose classes are not "
                "learned; the recipe steady starts them alive (--recipe steady, named_recipe('steady').changed(num_epochs=...))"
            )
        if self.choice.device.type == "cpu" and (advice := native.advice()) is not None:
            yield advice
        yield self._heading(processes)

    def _may_die(self) -> bool:
        trained = self.begins_from is not None or self.network.pretrained
        return self.network.config.class_map_relu and self.recipe.initialisation != "alive" and not trained

    def _heading(self, processes: Processes) -> str:
        """What is about to happen, with the reason of each choice that was made for the user."""
        p, count = self.preprocessing, sum(parameter.numel() for parameter in self.network.parameters())
        shared = "" if processes.alone else f"\nprocesses: {processes.count}, each with its part of every batch of {self.recipe.batch_size}"
        return (
            f"{self.name}, {count:,} parameters, on {self.splits.name} ({self.splits.source}): {len(self.learned):,} pictures of "
            f"{p.channels}x{p.height}x{p.width}, {len(self.splits.class_names)} classes, {counted(self.recipe.num_epochs, 'epoch')}, "
            f"seed {self.seed}\n"
            f"{self.choice}{shared}"
        )


def make_plan(
    network: NiN | NiNConfig | Classifier | str,
    data: Any,
    recipe: Recipe | None,
    *,
    name: str | None,
    seed: int,
    validation: float,
    choice: DeviceChoice,
) -> Plan:
    """Bring together what `train` was given.

    Weights that are drawn here are drawn by the seed, from torch's random numbers.

    Raises:
        ValueError: it does not fit together.
        DataError: the data is broken.
    """
    classifier = network if isinstance(network, Classifier) else None
    channels = None if classifier is None else classifier.config.in_channels
    if isinstance(data, DatasetSplits):
        splits = data
    else:
        splits = load_dataset(data, seed=seed, channels=channels, folder_size=reading_size(network, recipe))
    for what, there in (("train", splits.train), ("test", splits.test), ("validation", splits.validation)):
        if there is not None and not len(there):  # the last two would be missed only when all, or an epoch, is learned
            raise DataError(f"{splits.name}: expected at least one {what} picture, found none.")
    if isinstance(network, Classifier):
        name, network = name or network.metadata.get("name"), network_for(network, splits, seed)
    if isinstance(network, str):
        name, network = name or network, model_entry(network).config
    if isinstance(network, NiNConfig):
        torch.manual_seed(derived_seed(seed, "weights"))
        with torch.device("cpu"):  # whatever the caller's default is
            network = NiN(_built_for(network, splits.train, recipe))
    asked = recipe or _own_recipe(network)
    asked = asked if classifier is None else going_on(asked, classifier)
    if asked.initialisation is None:
        asked = dataclasses.replace(asked, initialisation="as built" if network.pretrained else "alive")
    _check_fit(network, splits.train)
    learned, held_out = _held_out(splits, validation, seed)
    fitted = asked.fitted(num_pictures=len(learned), mirror=splits.mirror)
    preprocessing = Preprocessing.of(learned, image_size=_image_size(fitted, network, learned), normalise=fitted.normalise)
    _check_spread(network, preprocessing, min(fitted.batch_size, len(learned)))
    _check_shift(fitted.augmentation.shift, *learned.image_size)
    return Plan(
        name=name or type(network).__name__,
        network=network,
        begins_from=classifier,
        splits=splits,
        learned=learned,
        held_out=held_out,
        asked=asked,
        recipe=fitted,
        preprocessing=preprocessing,
        seed=seed,
        validation=validation,
        choice=choice,
    )


def reading_size(network: NiN | NiNConfig | Classifier | str, recipe: Recipe | None) -> int | tuple[int, int] | None:
    """The size at which to read a folder of pictures, so that they are brought but once to that at which the network learns from them.

    Args:
        network: as for `train`.
        recipe: as for `train`.

    Returns:
        A side, or height and width, in pixels; None where the pictures decide.
    """
    config = model_entry(network).config if isinstance(network, str) else network if isinstance(network, NiNConfig) else network.config
    if recipe is not None and recipe.image_size is not None:
        return recipe.image_size
    if isinstance(network, Classifier):
        return network.preprocessing.height, network.preprocessing.width
    return config.image_size if config.head == "fc" or _too_small(config, DEFAULT_SIZE) else None


def _built_for(config: NiNConfig, dataset: ImageDataset, recipe: Recipe | None) -> NiNConfig:
    """For the channels and classes of the data; a fully connected head also for the recipe's size of picture."""
    size = recipe.image_size if recipe is not None and config.head == "fc" else None
    return dataclasses.replace(
        config, in_channels=dataset.in_channels, num_classes=dataset.num_classes, image_size=size or config.image_size
    )


def _own_recipe(network: NiN) -> Recipe:
    own = recipe_for(network.config)
    return dataclasses.replace(own, initialisation="as built") if network.pretrained else own


def _held_out(splits: DatasetSplits, validation: float, seed: int) -> tuple[ImageDataset, ImageDataset | None]:
    """The pictures to learn from, and those held out."""
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; it is the share of train pictures to hold out, at least 0 and below 1")
    if not validation:
        return splits.train, splits.validation
    if splits.validation is not None:
        raise ValueError(f"{splits.name} comes with {len(splits.validation)} validation pictures; leave out validation={validation}")
    return hold_out(splits.train, validation, seed)


def _image_size(recipe: Recipe, network: NiN, dataset: ImageDataset) -> int | None:
    """The recipe's size; else the dataset's, or the network's own where its head is for that one or the pictures are too small."""
    config, size = network.config, recipe.image_size
    if size is None and (config.head == "fc" or _too_small(config, *dataset.image_size)):
        size = config.image_size
    if size is not None:
        try:
            network.check_size(size, size)
        except ValueError as error:
            raise ValueError(f"image_size is {size}: {error}") from error
    return size


def _too_small(config: NiNConfig, *sides: int) -> bool:
    """Whether the layers leave nothing of such pictures, or a single value of each class map where the network is made for more.

    A single value sees no place: pictures of 8x8 pixels are classified better when they are enlarged (docs/lab-log.md).
    """
    left, made_for = [config.map_size(side) or 0 for side in sides], config.map_size(config.image_size) or 0
    return min(left) == 0 or max(left) == 1 < made_for


def _check_spread(network: NiN, preprocessing: Preprocessing, at_once: int) -> None:
    """Batch normalisation divides by the spread of a channel's values in a batch, and a single value has none."""
    p = preprocessing
    if at_once > 1 or not network.config.batch_norm:
        return
    # Of two pictures, for the table is made in training mode.
    rows = summarize(network, (2, p.channels, p.height, p.width)).rows
    if any(row.layer == "norm" and row.output_shape[2:] == (1, 1) for row in rows):
        raise ValueError(
            f"a batch is 1 picture of {p.height}x{p.width}, whose maps become 1x1, and batch normalisation sees no spread in one value; "
            "take batches of at least 2 pictures (--batch-size), or larger pictures (--image-size)"
        )


def _check_shift(shift: int, height: int, width: int) -> None:
    if shift >= max(height, width):
        raise ValueError(
            f"shift is {shift} pixels, and the pictures have {height}x{width}: nothing would be left of one that is moved so far"
        )


def _check_fit(network: NiN, dataset: ImageDataset) -> None:
    require_described(network)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ValueError("all weights of the network are frozen (requires_grad is False), so there is nothing to learn; leave some free")
    if dataset.num_classes < 2:
        raise ValueError(f"all pictures are of one class, {dataset.class_names[0]!r}; there is nothing to tell apart with less than two")
    config = network.config
    for what, wanted, there in (
        ("in_channels", config.in_channels, dataset.in_channels),
        ("num_classes", config.num_classes, dataset.num_classes),
    ):
        if wanted != there:
            raise ValueError(f"the network has {what}={wanted}, the data {there}; build it with create_model(..., {what}={there})")
