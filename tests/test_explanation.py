"""A class map's mean is the logit, its values stand where they look, and a 1 x 1 convolution is an MLP at a pixel."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchnin.data import Preprocessing, load_dataset
from torchnin.explanation import Grid, explain, feature_maps, pixel_vectors
from torchnin.models import BlockConfig, ClassBlockConfig, NiN, NiNConfig, create_model


def small(**changes: object) -> NiN:
    fields = {
        "blocks": (BlockConfig(channels=(6, 8, 8), kernel_size=3, stride=2), BlockConfig(channels=(8, 12, 12), kernel_size=3, padding=1)),
        "class_block": ClassBlockConfig(hidden=(12, 10)),
        "in_channels": 1,
        "num_classes": 5,
        "image_size": 32,
        "batch_norm": True,
        **changes,
    }
    torch.manual_seed(0)
    network = NiN(NiNConfig(**fields))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, not the identity
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.2, 0.5)
    return network


def preprocessing_of(network: NiN) -> Preprocessing:
    channels, side = network.config.in_channels, network.config.image_size
    return Preprocessing(channels=channels, height=side, width=side, mean=(0.3,) * channels, std=(0.25,) * channels)


def names_of(network: NiN) -> list[str]:
    return [f"class {index}" for index in range(network.num_classes)]


@pytest.fixture(scope="module")
def boot() -> torch.Tensor:
    """A real picture, grey, 28 pixels: the first of the sample's test pictures."""
    return torch.tensor(load_dataset("fashion-mnist-sample").test.images[0])


@pytest.fixture(scope="module")
def photo(shared_data: Path) -> torch.Tensor:
    """A photo of a hand, in colour, 100 pixels."""
    file = min((shared_data / "sign-language-digits" / "5").glob("*.JPG"))
    return torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1).copy())


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name", ["nin_d2l", "nin_cifar10", "nin_svhn", "nin_mnist"])
def test_the_mean_of_a_map_is_the_logit(name: str, relu: bool, boot: torch.Tensor) -> None:
    torch.manual_seed(1)
    network = create_model(name, class_map_relu=relu)
    preprocessing = preprocessing_of(network)
    picture = boot.expand(network.config.in_channels, -1, -1)
    explanation = explain(network, preprocessing, names_of(network), picture)
    scale = float(explanation.class_maps.abs().max())
    assert scale > 0
    torch.testing.assert_close(explanation.class_maps.double().mean((1, 2)).float(), explanation.logits, rtol=1e-5, atol=1e-6 * scale)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(preprocessing(picture[None]))[0], explanation.logits, rtol=1e-5, atol=1e-6 * scale)
    assert float(explanation.probabilities.sum()) == pytest.approx(1, abs=1e-6)


def test_a_larger_picture_gives_larger_maps_and_the_mean_still_holds(photo: torch.Tensor) -> None:
    network = small(in_channels=3)
    preprocessing = preprocessing_of(network)
    own = explain(network, preprocessing, names_of(network), photo, resize=False)
    assert min(own.class_maps.shape[1:]) > max(explain(network, preprocessing, names_of(network), photo).class_maps.shape[1:])
    torch.testing.assert_close(own.class_maps.mean((1, 2)), own.logits, rtol=1e-5, atol=1e-6)
    tall = explain(network, preprocessing, names_of(network), photo[:, :, :40], resize=False)
    assert tall.upsampled(0).shape == (photo.shape[1], 40)


@pytest.mark.parametrize("size", [(15, 15), (28, 31), (333, 517), (40, 1201)])
def test_the_mean_of_a_map_is_the_logit_at_any_size(size: tuple[int, int]) -> None:
    network = small()
    picture = torch.randint(256, (1, *size), dtype=torch.uint8)
    explanation = explain(network, preprocessing_of(network), names_of(network), picture, resize=False)
    maps = explanation.class_maps.double()
    differences = (maps.sum((1, 2)) / maps[0].numel() - explanation.logits.double()).abs()
    assert float(differences.max()) <= 2**-23 * 4 * float(maps.abs().max())  # four units in the last place of a float of the map's size


def test_a_picture_too_small_for_the_layers_is_refused_with_the_smallest_that_works() -> None:
    network = small()
    least = network.min_image_size
    tiny = torch.zeros(1, least - 1, least - 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"the smallest is {least}x{least}"):
        explain(network, preprocessing_of(network), names_of(network), tiny, resize=False)
    explain(network, preprocessing_of(network), names_of(network), tiny)  # resized, it is welcome


def test_a_block_may_have_a_forward_pass_of_its_own_and_the_body_be_a_module_of_ones_own() -> None:
    network, picture = small(), torch.randint(256, (1, 28, 28), dtype=torch.uint8)
    own = network.class_block.forward
    network.class_block.forward = lambda pictures: 2 * own(pictures)  # type: ignore[method-assign, misc]

    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(pictures)
            return found

    for body in (network.body, Around(network.body)):
        network.body = body  # type: ignore[assignment]
        preprocessing = preprocessing_of(network)
        explanation = explain(network, preprocessing, names_of(network), picture)
        assert torch.equal(feature_maps(network, preprocessing, picture)[-1][1], explanation.class_maps)


def test_a_fully_connected_head_has_no_maps_that_explain_it() -> None:
    network = small(head="fc")
    picture = torch.zeros(1, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match="not the means of the maps"):
        explain(network, preprocessing_of(network), names_of(network), picture)
    assert len(feature_maps(network, preprocessing_of(network), picture)) == 3


def test_nor_has_a_head_that_was_put_in_the_place_of_the_means() -> None:
    network = small()
    network.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"not the AdaptiveAvgPool2d and Flatten .* not the means of the maps"):
        explain(network, preprocessing_of(network), names_of(network), torch.zeros(1, 32, 32, dtype=torch.uint8))


def test_class_names_must_fit() -> None:
    network = small()
    with pytest.raises(ValueError, match="2 class names for a network of 5 classes"):
        explain(network, preprocessing_of(network), ["a", "b"], torch.zeros(1, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(("name", "side"), [("nin_d2l", 400), ("nin_mnist", 96), ("nin_imagenet", 400)])
def test_a_maps_value_stands_in_the_middle_of_the_pixels_that_reach_it(name: str, side: int) -> None:
    # Average pooling and weights above zero let the gradient through to every pixel that a value sees.
    network = create_model(name, pool="avg", num_classes=2).eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    picture = torch.zeros(network.config.in_channels, side, side, dtype=torch.uint8)
    grid = explain(network, preprocessing_of(network), ["a", "b"], picture, resize=False).grid
    inputs = torch.ones(1, network.config.in_channels, side, side, requires_grad=True)
    maps = network.class_maps(inputs)
    row = grid.size[0] // 2
    maps[0, 0, row, row - 1].backward()
    assert inputs.grad is not None
    reached = inputs.grad[0, 0].nonzero()
    first, last = reached.min(0).values, reached.max(0).values
    middle = (first + last).double() / 2
    assert int(first.min()) > 0
    assert int(last.max()) < side - 1  # the picture's border cuts nothing off
    assert middle.tolist() == [grid.centre + grid.stride * row, grid.centre + grid.stride * (row - 1)]
    assert (last - first + 1).tolist() == [grid.sees, grid.sees]
    assert dataclasses.replace(grid, picture_size=(9, 8)).seen == (9, 8)


def test_an_upsampled_map_keeps_its_values_and_their_places() -> None:
    network = small()
    picture = torch.randint(256, (1, 64, 96), dtype=torch.uint8)
    explanation = explain(network, preprocessing_of(network), names_of(network), picture, resize=False)
    grid, values = explanation.grid, explanation.class_maps[3]
    shown = explanation.upsampled("class 3")
    assert shown.shape == (64, 96)
    assert torch.equal(shown, explanation.upsampled(3))
    assert float(grid.centre).is_integer()  # so that middles fall on pixels, where the map must be met exactly
    rows = [int(grid.centre) + grid.stride * row for row in range(grid.size[0])]
    columns = [int(grid.centre) + grid.stride * column for column in range(grid.size[1])]
    torch.testing.assert_close(shown[rows][:, columns], values)
    torch.testing.assert_close(shown[0, 0], values[0, 0])  # beyond the outermost middle its value goes on
    halfway = (shown[rows[0], columns[0]] + shown[rows[0], columns[1]]) / 2
    torch.testing.assert_close(shown[rows[0], (columns[0] + columns[1]) // 2], halfway)
    for three in (np.int64(3), torch.tensor(3), np.str_("class 3")):
        assert torch.equal(shown, explanation.upsampled(three))
    for wrong in ("cat", 3.0, -1, 10, None, torch.tensor(3.0)):
        with pytest.raises(ValueError, match=rf"no class {re.escape(repr(wrong))}; .* class 0, class 1"):
            explanation.upsampled(wrong)  # type: ignore[arg-type]


def test_top_classes_and_plain_values() -> None:
    network = small()
    explanation = explain(network, preprocessing_of(network), names_of(network), torch.zeros(1, 32, 32, dtype=torch.uint8))
    assert list(explanation.top(2)) == explanation.probabilities.topk(2).indices.tolist()
    assert len(explanation.top(99)) == 5
    plain = json.loads(json.dumps(explanation.to_dict(top=2)))
    assert plain["label"] == f"class {explanation.top(1)[0]}"
    assert list(plain["class_maps"]) == [f"class {index}" for index in explanation.top(2)]
    for name, rows in plain["class_maps"].items():
        assert np.mean(rows) == pytest.approx(plain["logits"][name], rel=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("mlp_layers", [0, 1, 2, 3])
def test_a_1x1_convolution_is_a_fully_connected_layer_at_the_pixel(batch_norm: bool, relu: bool, mlp_layers: int) -> None:
    network = small(batch_norm=batch_norm, class_map_relu=relu, mlp_layers=mlp_layers)
    picture = torch.randint(256, (1, 40, 50), dtype=torch.uint8)
    found = pixel_vectors(network, preprocessing_of(network), picture, x=33, y=21)
    assert [one.block for one in found] == ["block 1", "block 2", "block 3"]
    blocks = [module for module in network.body if type(module).__name__ == "NiNBlock"] + [network.class_block]
    for one, block in zip(found, blocks, strict=True):
        assert len(one.layers) == 1 + mlp_layers
        assert one.layers[0][0] == "3x3"
        modules = list(block)
        starts = [place for place, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
        values = one.layers[0][1]
        for (layer, expected), start in zip(one.layers[1:], starts[1:], strict=True):
            assert layer == "1x1"
            values = by_hand(modules[start:], values)
            torch.testing.assert_close(expected, values, rtol=1e-4, atol=1e-5)
    maps = explain(network, preprocessing_of(network), names_of(network), picture).class_maps
    torch.testing.assert_close(found[-1].layers[-1][1], maps[:, found[-1].row, found[-1].column])


def by_hand(modules: list[nn.Module], values: torch.Tensor) -> torch.Tensor:
    """One fully connected layer with the weights of the 1 x 1 convolution that the modules begin with."""
    convolution, *rest = modules
    result = values.numpy() @ convolution.weight.detach()[:, :, 0, 0].numpy().T
    if convolution.bias is not None:
        result = result + convolution.bias.detach().numpy()
    for module in rest:
        if isinstance(module, nn.Conv2d):
            break
        if isinstance(module, nn.BatchNorm2d):
            mean, var = module.running_mean.numpy(), module.running_var.numpy()
            result = (result - mean) / np.sqrt(var + module.eps) * module.weight.detach().numpy() + module.bias.detach().numpy()
        else:
            result = np.maximum(result, 0)
    return torch.from_numpy(result)


def test_the_place_of_a_pixel_is_the_nearest_one_and_a_pixel_outside_is_refused() -> None:
    network = small()
    preprocessing = preprocessing_of(network)
    picture = torch.zeros(1, 64, 64, dtype=torch.uint8)  # resized to 32: two of its pixels are one of the network's
    # Block 1 is 3x3/2 without padding: its row r sees rows 2r to 2r+2 of the network's input, with 2r+1 in the middle.
    for y in range(64):
        seen = (y + 0.5) / 2 - 0.5
        row = pixel_vectors(network, preprocessing, picture, x=0, y=y)[0].row
        assert abs(2 * row + 1 - seen) <= 1 or row in (0, 14)
    with pytest.raises(ValueError, match="pixel 64,0 lies outside the picture: x goes from 0 to 63"):
        pixel_vectors(network, preprocessing, picture, x=64, y=0)
    with pytest.raises(ValueError, match=r"x is 1\.5; it is the pixel's column, from 0"):
        pixel_vectors(network, preprocessing, picture, x=1.5, y=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y is '1'; it is the pixel's row, from 0"):
        pixel_vectors(network, preprocessing, picture, x=0, y="1")  # type: ignore[arg-type]
    same, other = (pixel_vectors(network, preprocessing, picture, x=kind(9), y=kind(5)) for kind in (int, np.int64))
    assert [(part.row, part.column) for part in same] == [(part.row, part.column) for part in other]


def test_the_network_is_left_as_it_was() -> None:
    network = small(dropout=0.5).train()
    network.body[0][1].eval()  # a frozen normalisation stays frozen, and the others in training
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    picture = torch.randint(256, (1, 32, 32), dtype=torch.uint8)
    first = explain(network, preprocessing_of(network), names_of(network), picture)
    maps = feature_maps(network, preprocessing_of(network), picture)
    pixel_vectors(network, preprocessing_of(network), picture, 3, 3)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert [name for name, _ in maps] == ["block 1", "block 2", "block 3"]
    torch.testing.assert_close(maps[-1][1], first.class_maps)
    with torch.no_grad():
        inputs = preprocessing_of(network)(picture[None])
        torch.testing.assert_close(maps[0][1], network.eval().body[0](inputs)[0])


@pytest.mark.parametrize("relu", [True, False])
def test_an_explanation_is_drawn(relu: bool, tmp_path: Path, boot: torch.Tensor) -> None:
    network = small(class_map_relu=relu)
    explanation = explain(network, preprocessing_of(network), names_of(network), boot)
    path = tmp_path / "new folder" / "maps.png"
    explanation.save(path, top=2)
    with Image.open(path) as drawn:
        assert drawn.width > drawn.height > 300
    assert [file.name for file in path.parent.iterdir()] == ["maps.png"]
    with pytest.raises(ValueError, match="top is 0; it must be at least 1"):
        explanation.save(path, top=0)


def test_of_a_large_picture_the_maps_are_made_as_fine_as_they_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a photo of 50 million pixels three maps at its own size would take 600 MB."""
    network, made = small(), []
    upsample = Grid.upsample
    monkeypatch.setattr(Grid, "upsample", lambda grid, maps, *size: made.append(size) or upsample(grid, maps, *size))
    large = torch.zeros(network.config.in_channels, 1500, 3000, dtype=torch.uint8)
    explain(network, preprocessing_of(network), names_of(network), large).save(tmp_path / "maps.png", top=2)
    assert made == [(500, 1000)]
