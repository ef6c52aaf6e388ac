"""timm's registry, its keywords and its contract for models; torchvision may be a stand-in of names (conftest.py)."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import torchnin
from torchnin import Classifier, ImageDataset, NiN, Preprocessing, Recipe
from torchnin.data import DatasetSplits


def pictures(model: Any, size: int | None = None) -> torch.Tensor:
    channels, height, width = model.default_cfg["input_size"]
    return torch.randn(2, channels, size or height, size or width, generator=torch.Generator().manual_seed(0))


def test_every_network_is_registered_with_its_weights(timm: ModuleType) -> None:
    assert set(timm.list_models("nin_*")) == set(torchnin.list_models())
    tags = {f"{torchnin.weights_entry(name).network}.{name.replace('-', '_')}" for name in torchnin.list_weights()}
    assert set(timm.list_pretrained("nin_*")) == tags
    import torchnin.integrations.timm as module

    assert all(callable(getattr(module, name)) for name in module.__all__)


@pytest.mark.parametrize("name", torchnin.list_weights())
def test_weights_answer_as_they_do_without_timm(timm: ModuleType, name: str) -> None:
    entry = torchnin.weights_entry(name)
    model = timm.create_model(f"{entry.network}.{name.replace('-', '_')}", pretrained=True).eval()
    classifier = torchnin.load(name, backend="torch")
    x = pictures(model)
    with torch.no_grad():
        torch.testing.assert_close(model(x), classifier.network(x), rtol=1e-4, atol=1e-4)  # whose channels lie otherwise in memory
    p, config = classifier.preprocessing, timm.data.resolve_model_data_config(model)
    assert (config["input_size"], config["mean"], config["std"]) == ((p.channels, p.height, p.width), p.mean, p.std)
    assert (config["crop_pct"], config["crop_mode"], config["interpolation"]) == (1.0, "squash", "bilinear")  # the whole picture, stretched
    assert model.default_cfg["label_names"] == classifier.class_names
    assert model.pretrained


@pytest.mark.parametrize("name", torchnin.list_models())
def test_every_network_keeps_timms_contract(timm: ModuleType, name: str) -> None:
    model = timm.create_model(name, num_classes=7, in_chans=3).eval()
    size = 2 * model.min_image_size
    x = torch.randn(2, 3, size, size)
    assert model(x).shape == (2, 7)
    assert model.num_classes == 7
    features = model.forward_features(x)
    assert features.shape[1] == model.num_features == model.head_hidden_size
    assert torch.equal(model.forward_head(features), model(x))
    model.reset_classifier(0)
    assert torch.equal(model(x), features.mean((2, 3)))
    assert not list(model.get_classifier().parameters())
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features)
    model.reset_classifier(4, "avg")
    assert model(x).shape == (2, 4)
    assert sum(1 for _ in model.get_classifier().parameters())
    assert sum(parameter.numel() for parameter in timm.create_model(name, num_classes=0).parameters()) < model.num_features * 10**7
    backbone = timm.create_model(name, in_chans=3, features_only=True).eval()
    widths = [block.channels[-1] for block in model.config.blocks]
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert backbone.feature_info.channels() == [each.shape[1] for each in maps] == widths
    for each, step in zip(maps, backbone.feature_info.reduction(), strict=True):
        assert abs(each.shape[2] - 64 / step) <= 3
    model.reset_classifier(0)
    last, intermediates = model.forward_intermediates(x)
    assert torch.equal(last, model.forward_features(x))
    assert [each.shape[1] for each in intermediates] == widths


def test_what_the_blocks_make_of_pictures_is_had_in_every_way_of_timms(timm: ModuleType) -> None:
    model = timm.create_model("nin_base", pretrained=True).eval()
    x = pictures(model)
    maps = timm.create_model("nin_base", pretrained=True, features_only=True).eval()(x)
    features, intermediates = model.forward_intermediates(x)
    assert torch.equal(features, model.forward_features(x))
    assert all(torch.equal(one, other) for one, other in zip(maps, intermediates, strict=True))
    for indices in (2, [-2, -1]):
        assert all(map(torch.equal, model.forward_intermediates(x, indices, intermediates_only=True), maps[-2:]))
    stopped, [first] = model.forward_intermediates(x, [0], stop_early=True)
    assert torch.equal(stopped, first)
    assert torch.equal(first, maps[0])
    getter = timm.create_model("nin_base", pretrained=True, features_only=True, feature_cls="getter", out_indices=(0, -1)).eval()
    assert all(torch.equal(one, other) for one, other in zip(getter(x), (maps[0], maps[-1]), strict=True))
    assert getter.feature_info.channels() == [64, 144]
    for wrong in (0, 8, [], [7], [-8]):
        with pytest.raises(ValueError, match=re.escape("the blocks are 0 to 6, and a number takes 1 to 7 of the last ones")):
            model.forward_intermediates(x, wrong)
    with pytest.raises(ValueError, match="output_fmt is 'NLC'"):
        model.forward_intermediates(x, output_fmt="NLC")


def test_other_channels_and_classes_keep_what_was_learned(timm: ModuleType) -> None:
    trained = torchnin.create_model("nin_d2l", pretrained=True)
    model = timm.create_model("nin_d2l", pretrained=True, num_classes=3, in_chans=3)
    assert torch.equal(model.body[0][2].weight, trained.body[0][2].weight)
    assert torch.allclose(model.body[0][0].weight.sum(1, keepdim=True), trained.body[0][0].weight, atol=1e-3)
    assert model.class_block[0].weight.shape[0] == 3
    small = timm.create_model("nin_small", pretrained=True, num_classes=3)
    assert torch.equal(small.class_block[0].weight, torchnin.create_model("nin_small", pretrained=True).class_block[0].weight)
    without_dropout = timm.create_model("nin_mnist", pretrained=True, drop_rate=0.0).eval()
    x = pictures(without_dropout)
    assert torch.equal(without_dropout(x), torchnin.create_model("nin_mnist", pretrained=True).eval()(x))
    assert timm.create_model("nin_mnist", pretrained=True, num_classes=0)(x).shape == (2, 48)


def test_wrong_keywords_are_told(timm: ModuleType) -> None:
    assert timm.create_model("nin_small", mlp_layers=0, batch_norm=False).config.mlp_layers == 0
    with pytest.raises(TypeError, match="drop_path_rate"):
        timm.create_model("nin_small", drop_path_rate=0.1)
    with pytest.raises(ValueError, match=re.escape("mlp_layers is 9; accepted: 0, 1, 2, 3")):
        timm.create_model("nin_small", mlp_layers=9)
    with pytest.raises(ValueError, match="global_pool is ''"):
        timm.create_model("nin_small", global_pool="")
    with pytest.raises(AssertionError, match="gradient checkpointing"):
        timm.create_model("nin_small").set_grad_checkpointing()


def test_timms_optimizer_sees_the_blocks(timm: ModuleType) -> None:
    from timm.optim import create_optimizer_v2

    model = timm.create_model("nin_compact")
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, weight_decay=1e-4, layer_decay=0.5)
    # Four blocks and the last one, which alone has the full rate.
    assert sorted({group["lr_scale"] for group in optimizer.param_groups}) == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_a_model_of_timms_is_trained_and_saved_here(timm: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = ImageDataset(rng.integers(0, 255, (64, 1, 28, 28), dtype=np.uint8), np.arange(64) % 2, ("a", "b"))
    model = timm.create_model("nin_small", num_classes=2, in_chans=1)
    splits = DatasetSplits(name="noise", train=dataset, test=dataset, source="arrays")
    run = torchnin.train(model, splits, Recipe(num_epochs=1, batch_size=32), out=tmp_path / "run", quiet=True)
    assert type(run.classifier.network) is NiN
    mine = Classifier(model, Preprocessing.of(dataset), ("a", "b"))
    mine.save(tmp_path / "mine")
    expected = [each.probability for each in mine.predict(dataset.images[:4])]
    assert [each.probability for each in torchnin.load(tmp_path / "mine").predict(dataset.images[:4])] == pytest.approx(expected)
