"""Dropout by bytes: the same chances as torch's, drawn faster."""

import copy

import pytest
import torch
from torch import Tensor, nn

import torchnin
from torchnin.models.dropout import Dropout, draws_bytes, dropout_mask

SHAPE = (40, 24, 9, 7)  # no multiple of eight values


def ones(layout: torch.memory_format = torch.channels_last) -> Tensor:
    return torch.ones(SHAPE).contiguous(memory_format=layout)


@pytest.mark.parametrize("p", [0.5, 0.25, 3 / 256, 255 / 256])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_fall_with_that_probability_and_the_others_grow(p: float, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(ones(layout), p)
    assert mask.is_contiguous(memory_format=layout)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    spread = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float((mask == 0).float().mean()) - p) < 4 * spread


def test_no_place_falls_more_often_than_others_nor_together_with_its_neighbour() -> None:
    """Eight values share a number of 64 bits, whose uppermost bit is easily always zero."""
    torch.manual_seed(0)
    kept = torch.stack([dropout_mask(torch.ones(1, 8, 1, 64), 0.5).permute(0, 2, 3, 1).flatten() for _ in range(400)]) > 0
    by_place = kept.view(-1, 8).float()
    assert ((by_place.mean(0) - 0.5).abs() < 0.015).all()
    together = torch.corrcoef(by_place.T) - torch.eye(8)
    assert together.abs().max() < 0.03


def test_a_seed_decides_however_many_threads() -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            torch.manual_seed(7)
            found.append(dropout_mask(ones(), 0.5))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], dropout_mask(ones(), 0.5))


def test_the_gradient_passes_where_the_value_does() -> None:
    pictures = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.manual_seed(1)
    output = Dropout(0.5)(pictures)
    output.sum().backward()
    torch.manual_seed(1)
    mask = dropout_mask(pictures, 0.5)
    assert torch.equal(output, pictures * mask)
    assert pictures.grad is not None
    assert torch.equal(pictures.grad, mask)


@pytest.mark.parametrize(
    ("p", "like"),
    [
        (0.3, ones()),
        (0.0, ones()),
        (0.5, ones()[:, :, ::2]),
        (0.5, ones().to("meta")),
    ],
)
def test_what_bytes_do_not_decide_goes_torch_s_way(p: float, like: Tensor) -> None:
    assert not draws_bytes(like, p)
    assert Dropout(p)(like).shape == like.shape
    if p == 0.3:
        torch.manual_seed(2)
        ours = Dropout(p)(like)
        torch.manual_seed(2)
        assert torch.equal(ours, nn.Dropout(p)(like))


def test_at_rest_it_is_nothing_and_it_carries_no_weights() -> None:
    layer = Dropout(0.5).eval()
    pictures = ones()
    assert layer(pictures) is pictures
    assert not layer.state_dict()
    assert isinstance(copy.deepcopy(layer), nn.Dropout)


def test_in_half_precision() -> None:
    mask = dropout_mask(ones().bfloat16(), 0.5)
    assert mask.dtype == torch.bfloat16
    assert set(mask.unique().tolist()) == {0.0, 2.0}


def test_the_networks_have_it() -> None:
    assert [type(layer) for layer in torchnin.create_model("nin_mnist").modules() if isinstance(layer, nn.Dropout)] == [Dropout] * 2


def test_of_pictures_side_by_side_each_has_its_own_mask_where_that_is_asked_for() -> None:
    layer = Dropout(0.5)
    different = torch.func.vmap(layer, randomness="different")(torch.ones(3, 1, 4, 9, 9))
    assert different.unique().tolist() == [0, 2]
    assert not torch.equal(different[0], different[1])
    same = torch.func.vmap(layer, randomness="same")(torch.ones(3, 1, 4, 9, 9))
    assert torch.equal(same[0], same[1])


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")  # torch's own
def test_traced_it_takes_any_number_of_pictures() -> None:
    traced = torch.jit.trace(Dropout(0.5), ones(), check_trace=False)
    assert traced(ones()[:1].repeat(7, 1, 1, 1)).unique().tolist() == [0, 2]
