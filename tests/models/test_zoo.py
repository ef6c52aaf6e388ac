"""The networks are the published ones: parameters, multiply-adds, shapes."""

import pytest
import torch

from torchnin.models import NiNConfig, create_model, list_models, summarize

# REFERENCE: Lin, Chen, Yan and Dive into Deep Learning, counted by hand from the layer lists.
PUBLISHED = {
    "nin_d2l": ((1, 1, 224, 224), 1_992_166, 762_297_352),
    "nin_cifar10": ((1, 3, 32, 32), 966_986, 222_486_528),
    "nin_cifar100": ((1, 3, 32, 32), 984_356, 223_592_448),
    "nin_svhn": ((1, 3, 32, 32), 1_986_026, 274_235_392),
    "nin_mnist": ((1, 1, 28, 28), 349_674, 50_699_712),
    "nin_imagenet": ((1, 3, 224, 224), 7_595_176, 1_100_188_800),
}
SHAPES = {
    "nin_d2l": [(96, 54), (96, 26), (256, 26), (256, 12), (384, 12), (384, 5), (384, 5), (10, 5)],
    "nin_cifar10": [(96, 32), (96, 16), (96, 16), (192, 16), (192, 8), (192, 8), (10, 8)],
    "nin_cifar100": [(96, 32), (96, 16), (96, 16), (192, 16), (192, 8), (192, 8), (100, 8)],
    "nin_svhn": [(64, 32), (64, 16), (64, 16), (128, 16), (128, 8), (128, 8), (10, 8)],
    "nin_mnist": [(48, 28), (48, 14), (48, 14), (48, 14), (48, 7), (48, 7), (10, 7)],
    "nin_imagenet": [(96, 54), (96, 27), (256, 27), (256, 13), (384, 13), (384, 6), (384, 6), (1000, 6)],
}
GEOMETRY = {
    "nin_d2l": ["11/4/0", "5/1/2", "3/1/1", "3/1/1"],
    "nin_cifar10": ["5/1/2", "5/1/2", "3/1/1"],
    "nin_cifar100": ["5/1/2", "5/1/2", "3/1/1"],
    "nin_svhn": ["5/1/2", "5/1/2", "5/1/2"],
    "nin_mnist": ["5/1/2", "5/1/2", "5/1/2"],
    "nin_imagenet": ["11/4/0", "5/1/2", "3/1/1", "3/1/1"],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_is_exact(name: str) -> None:
    shape, parameters, macs = PUBLISHED[name]
    network = create_model(name)
    table = summarize(network, shape)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert (table.num_parameters, table.num_macs) == (parameters, macs)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1)]
    assert [f"{c.kernel_size[0]}/{c.stride[0]}/{c.padding[0]}" for c in convolutions] == GEOMETRY[name]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes_part_by_part(name: str) -> None:
    shape = PUBLISHED[name][0]
    x = torch.rand(shape)
    network = create_model(name).eval()
    seen = []
    for part in (*network.body, network.class_block):
        x = part(x)
        assert x.shape[2] == x.shape[3]
        seen.append((x.shape[1], x.shape[2]))
    assert seen == SHAPES[name]
    pooled = network.head[0](x)
    classes = SHAPES[name][-1][0]
    assert pooled.shape == (1, classes, 1, 1)
    assert network.head[1](pooled).shape == (1, classes)


@pytest.mark.parametrize("name", list_models())
def test_logits_are_the_means_of_the_class_maps(name: str) -> None:
    network = create_model(name).eval()
    size = network.config.image_size
    pictures = torch.rand(2, network.config.in_channels, size, size)
    with torch.no_grad():
        maps = network.class_maps(pictures)
        torch.testing.assert_close(network(pictures), maps.mean((2, 3)))
        torch.testing.assert_close(network.forward_head(network.forward_features(pictures)), network(pictures))
    assert network.forward_head(network.forward_features(pictures), pre_logits=True).shape == (2, network.num_features)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("nin_small", 350_000),
        ("nin_compact", 350_000),
        ("nin_deep", 350_000),
        ("nin_base", 1_000_000),
        ("nin_large", 2_000_000),
    ],
)
def test_our_own_networks_normalise_and_keep_their_size(name: str, most: int) -> None:
    for channels, size, classes in ((1, 28, 10), (3, 32, 10), (3, 32, 100)):
        network = create_model(name, in_channels=channels, num_classes=classes)
        assert sum(parameter.numel() for parameter in network.parameters()) <= most
        assert network.config.batch_norm
        assert not network.config.class_map_relu
        assert min(network.eval().class_maps(torch.rand(1, channels, size, size)).shape[2:]) >= 3  # enough to see where


@pytest.mark.parametrize("name", list_models())
def test_the_smallest_picture_works_and_the_next_smaller_names_it(name: str) -> None:
    network = create_model(name).eval()
    least, channels = network.min_image_size, network.config.in_channels
    assert network(torch.rand(1, channels, least, least)).shape == (1, network.num_classes)
    with pytest.raises(ValueError, match=f"smallest is {least}x{least}"):
        network(torch.rand(1, channels, least, least - 1))


@pytest.mark.parametrize("size", [(28, 40), (64, 33)])
def test_any_picture_size_gives_maps_in_proportion(size: tuple[int, int]) -> None:
    network = create_model("nin_mnist").eval()
    assert network.class_maps(torch.rand(1, 1, *size)).shape[2:] == tuple(network.config.map_size(side) for side in size)


def test_reset_classifier_keeps_the_body_and_changes_the_classes() -> None:
    network = create_model("nin_d2l", image_size=96)
    body = network.body[0][0].weight
    network.reset_classifier(3)
    assert network(torch.rand(1, 1, 96, 96)).shape == (1, 3)
    assert network.body[0][0].weight is body
    assert network.num_classes == network.config.num_classes == 3
    assert [c.out_channels for c in network.get_classifier() if isinstance(c, torch.nn.Conv2d)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("nin_cifar"), "did you mean nin_cifar10"),
        (lambda: create_model("resnet18"), "the networks: nin_d2l"),
        (lambda: create_model("nin_d2l:head=fc"), r"in Python create_model\('nin_d2l', FIELD=VALUE\)"),
        (lambda: create_model("nin_d2l", num_class=3), "did you mean num_classes"),
        (lambda: create_model("nin_d2l", class_hidden=(192, 48)), "it is hidden in class_block, a ClassBlockConfig; its fields"),
        (lambda: create_model("nin_d2l", num_classes=0), "num_classes is 0"),
        (lambda: create_model("nin_d2l", dropout=1.0), "dropout is 1.0"),
        (lambda: create_model("nin_d2l", mlp_layers=4), "mlp_layers is 4; accepted: 0, 1, 2, 3"),
        (lambda: create_model("nin_d2l", pool="median"), "accepted: 'max', 'avg'"),
        (lambda: create_model("nin_d2l", head="fc", image_size=28), "smallest is 67x67"),
        (lambda: create_model("nin_d2l")(torch.rand(1, 3, 224, 224)), "the pictures have 3 channels; this network takes 1"),
        (lambda: NiNConfig.from_dict({"blocks": []}), "no description of a NiN"),
    ],
)
def test_wrong_calls_say_what_is_accepted(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
