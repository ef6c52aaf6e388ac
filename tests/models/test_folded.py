"""The folded network is the network: random normalisation, every kind of head and pooling, any picture size, any number of pictures."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from torchnin import BlockConfig, ClassBlockConfig, NiN, NiNConfig, create_model
from torchnin.models import FoldedNiN
from torchnin.models.winograd import Prepared

# Of the largest logit. One rounding of each weight and another order of the sums; measured: at most 7e-7.
TOLERANCE = 5e-6
VARIANTS = {
    "as it is": {},
    "without normalisation": {"batch_norm": False},
    "class maps without ReLU": {"class_map_relu": False},
    "fully connected head": {"head": "fc"},
    "mean pooling": {"pool": "avg", "pool_rounding": "ceil"},
    "3 x 3 instead of 1 x 1": {"mlp_kernel_size": 3},
    "no 1 x 1": {"mlp_layers": 0},
    "colour": {"in_channels": 3},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Rounding depends on the weights, which else were others every time."""
    torch.manual_seed(0)


def lived(network: NiN, seed: int = 0) -> NiN:
    """The network as if it had been trained: every statistic and weight of its normalisation is something of its own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(draw(module.running_mean, -1, 1))
                module.running_var.copy_(draw(module.running_var, 0.01, 4))
                if module.affine:
                    module.weight.copy_(draw(module.weight, -0.5, 2))
                    module.bias.copy_(draw(module.bias, -1, 1))
    return network.eval()


def assert_same(network: NiN, pictures: torch.Tensor) -> None:
    folded = FoldedNiN(network)
    with torch.inference_mode():
        expected, maps = network(pictures), network.class_maps(pictures)
        for found, wanted in ((folded(pictures), expected), (folded.class_maps(pictures), maps)):
            assert found.shape == wanted.shape
            assert (found - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_logits_and_class_maps_are_the_networks_own(tiny: NiNConfig, changes: dict[str, object], count: int) -> None:
    torch.manual_seed(1)
    config = dataclasses.replace(tiny, **changes)  # type: ignore[arg-type]
    assert_same(lived(NiN(config)), torch.randn(count, config.in_channels, 28, 28))


@pytest.mark.parametrize("name", ["nin_small", "nin_d2l", "nin_cifar10"])
def test_no_pictures_have_no_logits(name: str) -> None:
    network = create_model(name).eval()
    config = network.config
    pictures = torch.zeros(0, config.in_channels, config.image_size, config.image_size)
    assert FoldedNiN(network)(pictures).shape == network(pictures).shape == (0, 10)


@pytest.mark.parametrize("name", ["nin_small", "nin_base", "nin_mnist", "nin_cifar10"])
def test_so_are_those_of_the_named_networks(name: str) -> None:
    torch.manual_seed(2)
    network = lived(create_model(name))
    assert_same(network, torch.randn(4, network.config.in_channels, network.config.image_size, network.config.image_size))


@pytest.mark.parametrize("size", [(13, 13), (28, 41), (64, 64), (150, 19)])
def test_at_any_size_that_the_network_admits(tiny: NiNConfig, size: tuple[int, int]) -> None:
    for config in (tiny, dataclasses.replace(tiny, pool="avg")):
        assert_same(lived(NiN(config)), torch.randn(3, 1, *size))
    wide = lived(create_model("nin_mnist"))
    assert_same(wide, torch.randn(5, 1, *size))


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("relu", [True, False])
def test_much_work_takes_the_way_of_fewer_multiplications(
    tiny: NiNConfig, count: int, kernel: int, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        BlockConfig(channels=(128,), kernel_size=3, pool=False),
        BlockConfig(channels=(160,), kernel_size=kernel, padding=kernel // 2),
    )
    config = dataclasses.replace(tiny, blocks=(first, second), class_block=ClassBlockConfig(), mlp_layers=0, class_map_relu=relu)
    seen: list[int] = []
    prepared = Prepared.__call__

    def counted(self: Prepared, pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        return prepared(self, pictures)

    monkeypatch.setattr(Prepared, "__call__", counted)
    assert_same(lived(NiN(config)), torch.randn(count, 1, 46, 33))
    assert seen == [count] * 2


def test_also_where_the_size_it_was_described_for_is_too_small(tiny: NiNConfig) -> None:
    assert_same(lived(NiN(dataclasses.replace(tiny, image_size=4))), torch.randn(2, 1, 28, 28))


def test_other_pictures_are_refused_in_the_networks_words(tiny: NiNConfig) -> None:
    folded = FoldedNiN(NiN(tiny))
    with pytest.raises(ValueError, match="3 channels; this network takes 1"):
        folded(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="too small for this network"):
        folded(torch.zeros(1, 1, 2, 28))


def test_it_knows_when_the_network_has_other_weights(tiny: NiNConfig) -> None:
    network = lived(NiN(tiny))

    def changed() -> bool:
        nonlocal folded
        was = not folded.is_current(network)
        folded = FoldedNiN(network)
        return was

    folded = FoldedNiN(network)
    network(torch.randn(2, 1, 28, 28))
    assert not changed()
    with torch.no_grad():
        network.class_block[0].weight.view(-1)[0] += 1
    assert changed()
    network.load_state_dict(lived(NiN(tiny), seed=1).state_dict())
    assert changed()
    network.train()(torch.randn(2, 1, 28, 28))  # moves the statistics
    assert changed()
    network.reset_classifier(3)
    assert changed()
    network.body[0][0].weight.data = torch.ones_like(network.body[0][0].weight)
    assert changed()
    network.body[0][0].weight = nn.Parameter(torch.zeros_like(network.body[0][0].weight))
    assert changed()
    prune.l1_unstructured(network.body[0][0], "weight", 0.5)
    assert changed()
    network.class_block[0] = nn.Conv2d(16, 16, 3, padding=1)
    assert changed()
    assert not changed()
    assert folded(torch.zeros(1, 1, 28, 28)).shape == (1, 3)
    assert not folded.is_current(NiN(tiny))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [False, True])
def test_it_knows_of_the_steps_of_optimisers(tiny: NiNConfig, make: type[torch.optim.Optimizer], fused: bool) -> None:
    network, pictures = lived(NiN(tiny)), torch.randn(2, 1, 28, 28)
    optimizer = make(network.parameters(), lr=0.1, fused=fused)  # type: ignore[call-arg]
    for _ in range(2):
        folded = FoldedNiN(network)
        network(pictures).square().sum().backward()
        assert folded.is_current(network)
        optimizer.step()
        assert not folded.is_current(network)
    assert_same(network, pictures)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_weights_laid_out_for_one_size_serve_no_other(count: int) -> None:
    network = lived(create_model("nin_small"))
    folded = FoldedNiN(network)
    with torch.inference_mode():
        for size in ((28, 28), (32, 32), (28, 28), (40, 28), (56, 56), (64, 64), (28, 28)):
            pictures = torch.randn(count, 1, *size)
            assert (folded(pictures) - network(pictures)).abs().max() <= TOLERANCE * network(pictures).abs().max()


EXCHANGED: dict[str, Callable[[NiN], None]] = {
    "LeakyReLU": lambda network: network.body[0].__setitem__(2, nn.LeakyReLU(0.2)),
    "SiLU": lambda network: network.body[2].__setitem__(-1, nn.SiLU()),
    "SiLU on the class maps": lambda network: network.class_block.__setitem__(-1, nn.SiLU(inplace=True)),
    "ReLU behind another layer": lambda network: network.body[0].__setitem__(1, nn.GroupNorm(2, 8)),
    "normalisation behind ReLU": lambda network: network.body[0].append(nn.BatchNorm2d(8)),
    "normalisation without weights": lambda network: network.body[0].__setitem__(1, nn.BatchNorm2d(8, affine=False)),
    "a convolution in groups": lambda network: network.body[0].__setitem__(3, nn.Conv2d(8, 8, 1, groups=4)),
    "another pooling": lambda network: network.body.__setitem__(1, nn.AvgPool2d(2)),
    "pooling by a convolution": lambda network: network.body.__setitem__(1, nn.Conv2d(8, 8, 3, stride=2, padding=1)),
    "a block that is no block": lambda network: network.body.__setitem__(2, nn.Sequential(nn.Conv2d(8, 16, 3), nn.Tanh())),
    "the largest value as logit": lambda network: network.head.__setitem__(0, nn.AdaptiveMaxPool2d(1)),
    "nothing": lambda network: network.body[0].__setitem__(1, nn.Identity()),
}


@pytest.mark.parametrize("exchange", EXCHANGED.values(), ids=EXCHANGED)
@pytest.mark.parametrize("count", [1, 6])
def test_layers_that_were_exchanged_are_computed_too(tiny: NiNConfig, exchange: Callable[[NiN], None], count: int) -> None:
    network = NiN(tiny)
    exchange(network)
    assert_same(lived(network), torch.randn(count, 1, 28, 28))


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("activation", [nn.LeakyReLU, nn.SiLU])
def test_also_in_networks_that_have_ways_of_their_own(activation: type[nn.Module], count: int) -> None:
    network = create_model("nin_cifar10")
    network.body[0][-1] = activation()
    assert_same(network.eval(), torch.randn(count, 3, 32, 32))
    network = create_model("nin_cifar10")
    network.body[1] = nn.AvgPool2d(3, 2, ceil_mode=True)
    assert_same(network.eval(), torch.randn(count, 3, 32, 32))


def test_a_pruned_head_keeps_weight_and_bias_apart(tiny: NiNConfig) -> None:
    network = lived(NiN(dataclasses.replace(tiny, head="fc")))
    prune.l1_unstructured(network.head[1], "weight", 0.5)
    assert_same(network, torch.randn(2, 1, 28, 28))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("make", [lambda layer: prune.l1_unstructured(layer, "weight", 0.5), nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_that_torch_makes_before_a_forward_pass_are_those_of_the_next(tiny: NiNConfig, make: Callable[[nn.Module], object]) -> None:
    network = lived(NiN(tiny))
    make(network.body[0][0])
    pictures = torch.randn(2, 1, 28, 28)
    for _ in range(2):
        state = {name: 1.5 * value if value.is_floating_point() else value for name, value in network.state_dict().items()}
        network.load_state_dict(state)
        assert_same(network, pictures)


@pytest.mark.parametrize("count", [1, 8, 40])
@pytest.mark.parametrize("name", ["nin_small", "nin_cifar10", "nin_mnist"])
def test_autocast_around_it_changes_nothing(name: str, count: int) -> None:
    network = lived(create_model(name))
    folded, pictures = FoldedNiN(network), torch.randn(count, network.config.in_channels, 28, 28)
    with torch.inference_mode():
        expected = folded(pictures), folded.class_maps(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            found = folded(pictures), folded.class_maps(pictures)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 8, 40])
@pytest.mark.parametrize("name", ["nin_small", "nin_cifar10", "nin_mnist"])
def test_weights_that_are_no_numbers_reach_the_logits(name: str, count: int) -> None:
    network = lived(create_model(name))
    with torch.no_grad():
        network.body[0][0].weight[0, 0, 0, 0] = torch.nan
        assert FoldedNiN(network)(torch.randn(count, network.config.in_channels, 28, 28)).isnan().all()


def test_multiply_adds_of_layers_of_other_kinds_are_not_known(tiny: NiNConfig) -> None:
    network = lived(NiN(tiny))
    network.body[0][2] = nn.SiLU()
    with pytest.raises(RuntimeError, match=r"SiLU\(\) is no layer that a NiN is built of"):
        FoldedNiN(network).macs(28, 28)
