from dataclasses import replace

import pytest
import torch

from torchnin import Classifier, DatasetSplits, NiN, NiNConfig, Preprocessing
from torchnin.training.going_on import describe_beginning, network_for


@pytest.mark.parametrize("head", ["gap", "fc"])
@pytest.mark.parametrize("class_map_relu", [True, False])
def test_classes_in_another_order_keep_what_was_learned(head: str, class_map_relu: bool, tiny: NiNConfig, few: DatasetSplits) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    names = [few.class_names[index] for index in order]
    network = NiN(replace(tiny, head=head, class_map_relu=class_map_relu))
    pictures = torch.rand(4, *few.train.images.shape[1:])
    for _ in range(2):
        network(pictures)  # so that the running statistics of the classes differ
    learned = Classifier(network, Preprocessing.of(few.train), few.class_names)
    other = replace(few, train=few.train.with_class_names(names), test=few.test.with_class_names(names))
    logits = learned.network.eval()(pictures)
    assert torch.allclose(network_for(learned, other, seed=0).eval()(pictures), logits[:, order], atol=1e-6)
    assert torch.equal(network_for(learned, few, seed=0).eval()(pictures), logits)
    assert describe_beginning(learned, other)["same_classes"]
    assert torch.equal(learned.network(pictures), logits)  # the classifier stays as it was


def test_other_classes_draw_the_last_block_anew(tiny: NiNConfig, few: DatasetSplits) -> None:
    network = NiN(tiny)
    learned = Classifier(network, Preprocessing.of(few.train), [*few.class_names[:9], "Hat"])
    made = network_for(learned, few, seed=0)
    assert torch.equal(made.body[0][0].weight, network.body[0][0].weight)
    assert not torch.equal(made.class_block[0].weight, network.class_block[0].weight)
    assert not describe_beginning(learned, few)["same_classes"]
