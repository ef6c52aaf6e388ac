"""A training that begins with trained weights instead of drawn ones."""

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from torchnin.classifier import Classifier
from torchnin.data import DatasetSplits, derived_seed
from torchnin.models import NiN
from torchnin.saved import number_in, record_of_data
from torchnin.training.optimisation import revive_class_maps
from torchnin.training.recipe import Recipe


def network_for(classifier: Classifier, splits: DatasetSplits, seed: int) -> NiN:
    """A copy of a classifier's network for these data.

    Classes are matched by name: those that stand in another order are brought into that of the data; where there are others, the last
    block is drawn anew, by `seed`.
    """
    network = copy.deepcopy(classifier).network
    if _same_classes(classifier, splits):
        _reorder_classes(network, [classifier.class_names.index(name) for name in splits.class_names])
    else:
        torch.manual_seed(derived_seed(seed, "weights"))
        network.reset_classifier(len(splits.class_names))
        revive_class_maps(network)
    return network


def going_on(recipe: Recipe, classifier: Classifier) -> Recipe:
    """The recipe with nothing drawn, and pictures of the size that the weights know where it names none."""
    p = classifier.preprocessing
    size = p.height if recipe.image_size is None and p.height == p.width else recipe.image_size
    return dataclasses.replace(recipe, initialisation="as built", image_size=size)


def describe_beginning(classifier: Classifier, splits: DatasetSplits) -> dict[str, Any]:
    """What the run records of where it began, as plain values."""
    facts = classifier.metadata
    return {
        "name": facts.get("name"),
        "data": record_of_data(facts).get("name"),
        "test_accuracy": number_in(facts, "test_accuracy"),
        "same_classes": _same_classes(classifier, splits),
    }


def beginning(described: dict[str, Any]) -> str:
    """The same as a sentence."""
    learned = f" that learned {described['data']}" if described["data"] else ""
    last = "" if described["same_classes"] else "; the last block is drawn anew, for the classes are others"
    return f"going on from the weights of {described['name'] or 'a network'}{learned}{last}"


def _same_classes(classifier: Classifier, splits: DatasetSplits) -> bool:
    """In whatever order."""
    return sorted(classifier.class_names) == sorted(splits.class_names)


def _reorder_classes(network: NiN, order: list[int]) -> None:
    """Class `i` becomes what class `order[i]` was."""
    layers = list(network.head if network.config.head == "fc" else network.class_block)
    last = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d | nn.Linear))
    for layer in layers[last:]:
        for values in layer.state_dict().values():  # as they are in the layer, not copies
            if values.ndim:
                values.copy_(values[order])
