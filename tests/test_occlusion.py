"""Covering what a class map points to takes the class away; what it is compared with is drawn fairly."""

import numpy as np
import pytest
import torch
from torch import nn

from torchnin.data import Preprocessing
from torchnin.explanation import Grid
from torchnin.models import BlockConfig, ClassBlockConfig, NiN, NiNConfig
from torchnin.occlusion import _apart, _middles, _places, occlusion_drop


def small(head: str = "gap") -> tuple[NiN, Preprocessing]:
    torch.manual_seed(0)
    config = NiNConfig(
        blocks=(BlockConfig(channels=(6, 8), kernel_size=3, stride=2),),
        class_block=ClassBlockConfig(hidden=(8,)),
        in_channels=1,
        num_classes=5,
        image_size=32,
        mlp_layers=1,
        batch_norm=True,
        head=head,
    )
    return NiN(config), Preprocessing(channels=1, height=32, width=32, mean=(0.3,), std=(0.25,))


def brightness_network() -> tuple[NiN, Preprocessing]:
    """Class 1 is brightness: its map is the picture itself, times 100; class 0 is nothing."""
    config = NiNConfig(
        blocks=(BlockConfig(channels=(1,), kernel_size=1, pool=False),),
        class_block=ClassBlockConfig(kernel_size=1, padding=0),
        in_channels=1,
        num_classes=2,
        image_size=30,
        mlp_layers=0,
        dropout=0,
    )
    network = NiN(config)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        network.body[0][0].weight.fill_(1)
        network.class_block[0].weight[1] = 100
    return network, Preprocessing(channels=1, height=30, width=30, mean=(0.0,), std=(1.0,))


def test_covering_what_the_map_points_to_takes_the_class_away_and_covering_elsewhere_does_not() -> None:
    network, preprocessing = brightness_network()
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(200, 1, 30, 30, dtype=torch.uint8)
    for picture in pictures:
        top, left = torch.randint(24, (2,), generator=generator).tolist()
        picture[0, top : top + 6, left : left + 6] = 255
    ones = torch.ones(200, dtype=torch.long)
    drops = occlusion_drop(network, preprocessing, pictures, ones, filling="mean", generator=generator)
    assert drops.share == pytest.approx(0.09)  # 9x9 of 30x30 pixels: whole pixels nearest to a tenth
    # The cover holds the whole bright patch: 36 bright pixels become 81 of the mean's grey.
    grey = 36 / 900
    before, after = (1 / (1 + np.exp(-100 * mean)) for mean in (36 / 900, 81 * grey / 900))
    torch.testing.assert_close(drops.pointed, torch.full((200,), before - after), rtol=1e-4, atol=1e-5)
    # Elsewhere never touches the patch: black becomes grey, which can only raise the class.
    assert float(drops.elsewhere.max()) <= 0
    assert len(drops.elsewhere.unique()) == 1
    assert torch.equal(drops.lowest, drops.elsewhere)  # away from the patch the map is zero everywhere


def test_the_lowest_place_is_the_one_that_speaks_most_against_the_class() -> None:
    network, preprocessing = brightness_network()
    pictures = torch.full((20, 1, 30, 30), 8, dtype=torch.uint8)
    pictures[:, :, 3:12, 3:12], pictures[:, :, 18:27, 12:21] = 20, 0
    drops = {
        filling: occlusion_drop(
            network,
            preprocessing,
            pictures,
            torch.ones(20, dtype=torch.long),
            filling=filling,
            generator=torch.Generator().manual_seed(0),
        )
        for filling in ("mean", "black", "blur")
    }
    for filling in ("mean", "blur"):
        assert float(drops[filling].pointed.min()) > 0
        # The black patch becomes grey, which raises a class that is brightness; no other place raises it as much.
        assert float(drops[filling].lowest.max()) < 0
        assert float(drops[filling].lowest.max()) <= float(drops[filling].elsewhere.min())
    assert float(drops["black"].lowest.abs().max()) == 0  # black is covered with black
    assert float(drops["black"].pointed.min()) > float(drops["mean"].pointed.max())


def test_the_exchanged_cover_lies_where_the_map_of_another_picture_points() -> None:
    network, preprocessing = brightness_network()
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(2, 1, 30, 30, dtype=torch.uint8)
    pictures[0, :, 3:9, 3:9], pictures[1, :, 21:27, 21:27] = 255, 255
    ones = torch.ones(2, dtype=torch.long)
    apart = occlusion_drop(network, preprocessing, pictures, ones, generator=generator)
    assert float(apart.pointed.min()) > 0.4  # black takes all the brightness
    assert torch.equal(apart.exchanged, torch.zeros(2))  # black on black takes nothing
    # Where all maps are highest at one place, the exchange changes nothing, however much more than others that place matters.
    alike = occlusion_drop(network, preprocessing, pictures[[0, 0, 0]], ones[[0, 0, 0]], generator=generator)
    assert torch.equal(alike.exchanged, alike.pointed)
    assert float((alike.pointed - alike.elsewhere).min()) > 0.4


def test_no_picture_of_many_is_its_own_partner() -> None:
    network, preprocessing = brightness_network()
    pictures = torch.zeros(130, 1, 30, 30, dtype=torch.uint8)
    for number, picture in enumerate(pictures):  # 130 places, no two of them with the same cover
        picture[0, 9 + number // 13, 8 + number % 13] = 255
    drops = occlusion_drop(
        network, preprocessing, pictures, torch.ones(130, dtype=torch.long), share=1 / 900, generator=torch.Generator().manual_seed(1)
    )
    assert drops.share == pytest.approx(1 / 900)
    assert float(drops.pointed.min()) > 0
    assert torch.equal(drops.exchanged, torch.zeros(130))


def test_a_fully_connected_head_is_refused_and_the_network_is_left_as_it_was() -> None:
    picture = torch.randint(256, (1, 1, 32, 32), dtype=torch.uint8)
    with pytest.raises(ValueError, match="not the means of the maps"):
        occlusion_drop(*small("fc"), picture, torch.tensor([0]))
    network, preprocessing = small()
    network.train().body[0][1].eval()  # a frozen normalisation stays frozen, and the others in training
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    one = occlusion_drop(network, preprocessing, picture, torch.tensor([0]))
    assert torch.equal(one.exchanged, one.pointed)  # there is no other picture
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_the_same_generator_covers_the_same_places() -> None:
    network, preprocessing = small()
    pictures = torch.randint(256, (70, 1, 32, 32), dtype=torch.uint8)
    first, second = (
        occlusion_drop(network, preprocessing, pictures, torch.arange(70) % 5, share=1 / 9, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(first.elsewhere, second.elsewhere)
    assert not torch.equal(first.elsewhere, first.pointed)
    with pytest.raises(ValueError, match=r"share is 0\.5; it must be above 0 and at most 1/9"):
        occlusion_drop(network, preprocessing, pictures, torch.arange(70) % 5, share=0.5)
    with pytest.raises(ValueError, match="filling is 'red'; accepted: 'black', 'mean', 'blur'"):
        occlusion_drop(network, preprocessing, pictures, torch.arange(70) % 5, filling="red")


def test_where_the_first_cover_hides_all_middles_the_lowest_place_is_one_beyond_them() -> None:
    """A map of 3x3 values, its places 8 pixels apart, and a cover of 9x9 in the middle: no other middle is apart from it."""
    grid = Grid(size=(3, 3), centre=5.5, stride=8, sees=30, picture_size=(28, 28))
    values = torch.tensor([[[3.0, 2.5, 3], [2, 9, 4], [0, 4, 3]]])
    first, _, third = _places(values, grid, (9, 9), torch.Generator().manual_seed(0))[:, 0].tolist()
    row, column = divmod(first, 20)
    assert not (_apart(torch.tensor([first]), (20, 20), (9, 9)) & _middles(grid, (9, 9), (20, 20))).any()
    lowest = divmod(third, 20)
    assert max(abs(lowest[0] - row), abs(lowest[1] - column)) >= 9
    assert lowest[0] > row >= column > lowest[1]  # where the map is lowest, at the left below, and not the first place of all
