import math
from pathlib import Path

import pytest
import torch
from torch import nn

from torchnin import DatasetSplits, NiN, NiNConfig, Preprocessing, Recipe, create_model, train
from torchnin.training.optimisation import WeightMean, gradient_norm, initialise, level_class_maps, make_optimizers
from torchnin.training.recipe import named_recipe


def convolutions(network: NiN) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_as_built_draws_nothing(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    initialise(network, Recipe(initialisation="as built"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_xavier_leaves_the_biases() -> None:
    network = create_model("nin_mnist")
    biases = [layer.bias.clone() for layer in convolutions(network) if layer.bias is not None]
    initialise(network, Recipe(initialisation="xavier"))
    assert all(torch.equal(a, layer.bias) for a, layer in zip(biases, convolutions(network), strict=True) if layer.bias is not None)
    for layer in convolutions(network):
        fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_he_keeps_the_size_of_gradients_and_of_the_class_maps() -> None:
    torch.manual_seed(0)
    network = create_model("nin_base")
    initialise(network, Recipe(initialisation="he"))
    *layers, last = convolutions(network)
    for layer in layers:
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / layer.weight[:, 0].numel()), rel=0.1)
    assert float(last.weight.detach().std()) == pytest.approx(math.sqrt(1 / last.weight[0].numel()), rel=0.1)
    assert last.bias is not None
    assert not last.bias.any()


def test_a_fully_connected_head_starts_and_learns_as_one_of_all_pixels(few: DatasetSplits, tmp_path: Path) -> None:
    """Drawn for its outputs and at the rate of an average it ended in a weight that is no number, within three passes."""
    torch.manual_seed(0)
    network = create_model("nin_small", head="fc", image_size=96)
    pixels = network.class_maps(torch.rand(1, 1, 96, 96)).shape[2:].numel()
    head = network.head[-1]
    assert isinstance(head, nn.Linear)
    for start in ("he", "alive"):
        initialise(network, Recipe(initialisation=start))  # type: ignore[arg-type]
        gain = 1 if start == "he" else 2
        assert float(head.weight.detach().std()) == pytest.approx(math.sqrt(gain / (10 * pixels)), rel=0.1)
    rates = {
        id(parameter): group["peak_lr"]
        for optimizer in make_optimizers(network, Recipe(lr=0.1))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates.keys() == {id(parameter) for parameter in network.parameters()}
    assert rates[id(head.weight)] == pytest.approx(0.1 / pixels)
    assert rates[id(head.bias)] == 0.1
    recipe = named_recipe("fast").changed(num_epochs=4)
    run = train(create_model("nin_small", head="fc"), few, recipe, out=tmp_path / "run", device="cpu", dtype="float32", quiet=True)
    assert run.metrics[-1]["train_loss"] < 1.5


def test_alive_leaves_no_class_map_dead(few: DatasetSplits) -> None:
    pictures = Preprocessing.of(few.train)(torch.from_numpy(few.train.images[:64]))
    for seed in range(5):
        torch.manual_seed(seed)
        network = create_model("nin_mnist").eval()
        initialise(network, Recipe(initialisation="alive"))
        with torch.no_grad():
            logits = network(pictures)
        assert bool((logits > 0).any(0).all())
        # No class is preferred by much either: ln(10) is what equal answers cost.
        assert float(nn.functional.cross_entropy(logits, torch.from_numpy(few.train.labels[:64]))) < math.log(10) + 0.5


def test_levelled_class_maps_begin_at_their_biases(few: DatasetSplits, tiny: NiNConfig) -> None:
    preprocessing = Preprocessing.of(few.train)
    pictures = torch.from_numpy(few.train.images[:100])
    torch.manual_seed(0)
    network = create_model("nin_mnist").train()
    initialise(network, Recipe(initialisation="alive"))
    last = convolutions(network.class_block)[-1]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    random_numbers = torch.get_rng_state()
    assert level_class_maps(network, pictures, preprocessing) is last.weight
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert network.training
    assert not last._forward_hooks
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, weights[name])}
    assert changed == {name for name, parameter in network.named_parameters() if parameter is last.weight}
    before_relu: list[torch.Tensor] = []
    last.register_forward_hook(lambda _layer, _inputs, maps: before_relu.append(maps.mean((0, 2, 3))))
    with torch.no_grad():
        network.eval()(preprocessing(pictures))
    torch.testing.assert_close(before_relu[0], torch.full((10,), 0.5))
    # Where no bias lifts the maps above zero, or nothing is cut off below it, nothing is changed.
    assert level_class_maps(NiN(tiny), pictures, preprocessing) is None
    assert level_class_maps(create_model("nin_small"), pictures, preprocessing) is None


def test_weight_decay_spares_biases_and_norms(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    for kind in ("sgd", "muon"):
        decayed = {}
        for optimizer in make_optimizers(network, Recipe(weight_decay=0.1, optimizer=kind)):  # type: ignore[arg-type]
            for group in optimizer.param_groups:
                decayed |= {id(parameter): group.get("weight_decay", 0) for parameter in group["params"]}
        assert decayed.keys() == {id(parameter) for parameter in network.parameters()}  # each is learned, and by one
        for name, parameter in network.named_parameters():
            assert parameter.ndim > 1 or decayed[id(parameter)] == 0, name
        if kind == "sgd":
            assert all(decayed[id(parameter)] == 0.1 for parameter in network.parameters() if parameter.ndim > 1)


def test_the_gradient_norm_is_that_of_all_gradients_together(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    network(torch.rand(4, 1, 28, 28)).sum().backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]).norm()
    torch.testing.assert_close(gradient_norm(network.parameters()), expected)


def test_the_mean_of_the_weights_by_hand(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    mean = WeightMean(network, 0.5)
    name = "body.0.0.weight"
    expected = network.state_dict()[name].clone()
    for step in range(20):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.num_batches_tracked is not None:
                module.num_batches_tracked += 1
        mean.update(network, mean.share(step))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.state_dict()[name]
    torch.testing.assert_close(mean.state[name], expected)
    assert all(int(value) == 20 for key, value in mean.state.items() if key.endswith("num_batches_tracked"))
    network.load_state_dict(mean.state)


@pytest.mark.parametrize("name", ["nin_mnist", "nin_small"])
def test_every_start_learns(name: str) -> None:
    """A few steps on one batch bring the loss down, whatever the start."""
    for start in ("xavier", "alive"):
        torch.manual_seed(0)
        network = create_model(name)
        initialise(network, Recipe(initialisation=start))  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        pictures, labels = torch.rand(10, 1, 28, 28), torch.arange(10)
        losses = []
        for _ in range(4):
            loss = nn.functional.cross_entropy(network.eval()(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
