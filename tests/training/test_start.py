import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchnin import RECIPES, DatasetSplits, ImageDataset, NiN, NiNConfig, Recipe, Run, create_model, load, load_dataset, resume, train
from torchnin.data import DataError
from torchnin.training import DivergenceError, load_recorded, plan
from torchnin.training.log import Silent
from torchnin.training.provenance import describe_data

ONCE = Recipe(num_epochs=1, batch_size=80)


def test_a_name_is_built_for_the_data(few: DatasetSplits, tmp_path: Path) -> None:
    two = DatasetSplits(
        name="two",
        train=few.train.select(np.flatnonzero(few.train.labels < 2)).with_class_names(few.class_names[:2]),
        test=few.test.select(np.flatnonzero(few.test.labels < 2)).with_class_names(few.class_names[:2]),
        source="here",
    )
    run = train("nin_small", two, ONCE, out=tmp_path / "run", quiet=True)
    assert run.config["name"] == run.classifier.metadata["name"] == "nin_small"
    assert run.classifier.class_names == few.class_names[:2]
    assert run.classifier.network.num_classes == 2
    assert run.classifier.metadata["test_accuracy"] == run.result["test_accuracy"]


def test_curves_can_be_drawn_while_it_learns(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    seen: list[int] = []
    run = train(
        tiny, few, replace(ONCE, num_epochs=3), out=tmp_path / "run", quiet=True, on_epoch=lambda run: seen.append(len(run.metrics))
    )
    assert seen == [1, 2, 3]
    assert len(run.metrics) == 3


def test_numpys_numbers_are_recorded_as_pythons(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    given: dict[str, Any] = {"seed": np.int64(3), "validation": np.float32(0.25), "accumulate": np.int64(2)}
    run = train(tiny, few, ONCE, out=tmp_path / "run", quiet=True, **given)
    assert (run.config["seed"], run.config["validation"], run.config["options"]["accumulate"]) == (3, 0.25, 2)
    for wrong in (1.5, "3", None):
        with pytest.raises(ValueError, match=f"^seed is {wrong!r}; it is a whole number"):
            train(tiny, few, ONCE, out=tmp_path / "other", seed=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()


def test_a_run_may_lie_where_names_are_no_utf8(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    assert train(tiny, few, ONCE, out=out / "run", device=torch.device("cpu"), quiet=True).path == out / "run"  # type: ignore[arg-type]


def test_a_built_network_goes_on_from_its_weights(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = NiN(tiny)
    given = {name: value.clone() for name, value in network.state_dict().items()}
    run = train(network, few, replace(ONCE, lr=1e-12, optimizer="sgd", initialisation="as built"), out=tmp_path / "run", quiet=True)
    learned = run.classifier.network.state_dict()
    assert all(
        torch.allclose(learned[name], value, atol=1e-6) for name, value in given.items() if "running" not in name and "num" not in name
    )


def test_trained_weights_are_gone_on_from_by_default_and_never_drawn_anew_in_silence(
    few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    still = replace(ONCE, lr=1e-12, muon_lr=1e-12, optimizer="sgd", initialisation="he")
    monkeypatch.setattr(plan, "recipe_for", lambda config: still)
    for number, trained in enumerate((create_model("nin_small", pretrained=True), load("fashion-mnist-small").network)):
        trained.reset_classifier(10)
        body = {name: value.clone() for name, value in trained.body.state_dict().items() if name.endswith("weight")}
        run = train(trained, few_of(few), out=tmp_path / str(number))
        assert "drawn anew" not in capsys.readouterr().err
        learned = run.classifier.network.body.state_dict()
        assert all(torch.allclose(learned[name], value, atol=1e-6) for name, value in body.items())
        assert run.config["recipe"]["initialisation"] == "as built"
    run = train(trained, few_of(few), still, out=tmp_path / "anew")
    assert "the weights that were trained are drawn anew (initialisation 'he'); 'as built' goes on from them" in capsys.readouterr().err
    assert not torch.allclose(run.classifier.network.body.state_dict()["0.0.weight"], body["0.0.weight"], atol=1e-2)


def test_weights_that_were_read_in_or_trained_are_gone_on_from(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    still = replace(ONCE, lr=1e-12, muon_lr=1e-12, optimizer="sgd", initialisation="he")
    monkeypatch.setattr(plan, "recipe_for", lambda config: still)
    network = NiN(tiny)
    assert not network.pretrained
    drawn = train(network, few_of(few), out=tmp_path / "drawn", quiet=True)
    assert drawn.config["recipe"]["initialisation"] == "he"
    assert network.pretrained
    read = NiN(tiny)
    read.load_state_dict(network.state_dict())
    for number, trained in enumerate((network, read, deepcopy(read), pickle.loads(pickle.dumps(read)))):
        weight = trained.body[0][0].weight.detach().clone()
        run = train(trained, few_of(few), out=tmp_path / str(number))
        assert "drawn anew" not in capsys.readouterr().err
        assert run.config["recipe"]["initialisation"] == "as built"
        assert torch.allclose(trained.body[0][0].weight, weight, atol=1e-6)


def test_weights_that_were_set_or_trained_elsewhere_are_gone_on_from(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, 0.1)  # as it was long written; nothing in torch counts this as a change

    by_hand, one_bias, elsewhere = NiN(tiny), NiN(tiny), NiN(tiny)
    by_hand.apply(drawn)
    nn.init.ones_(list(one_bias.parameters())[-1])
    optimizer = torch.optim.SGD(elsewhere.parameters(), lr=0.1)
    elsewhere(torch.rand(2, tiny.in_channels, tiny.image_size, tiny.image_size)).square().sum().backward()
    optimizer.step()
    for number, network in enumerate((by_hand, one_bias, elsewhere, deepcopy(by_hand))):
        assert network.pretrained
        weight = network.body[0][0].weight.detach().clone()
        run = train(network, few_of(few), replace(ONCE, lr=1e-12, muon_lr=1e-12, initialisation=None), out=tmp_path / str(number))
        assert "begins with the network's weights as they are" in capsys.readouterr().err
        assert run.config["recipe"]["initialisation"] == "as built"
        assert torch.allclose(network.body[0][0].weight, weight, atol=1e-6)


def test_moving_a_network_or_giving_it_other_classes_trains_nothing(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    for moved in (network, network.double(), network.to(memory_format=torch.channels_last), deepcopy(network), network.bfloat16()):
        assert not moved.pretrained
    network = NiN(tiny)
    network.reset_classifier(7)
    assert not network.pretrained
    nn.init.zeros_(network.class_block[0].weight)
    assert network.pretrained
    network.reset_classifier(3)
    assert not network.pretrained  # what was set is gone with the block
    assert not NiN(tiny).to("meta").pretrained


def test_a_network_made_without_memory_has_the_weights_that_it_was_given(tiny: NiNConfig) -> None:
    with torch.device("meta"):
        network = NiN(tiny)
    assert not network.pretrained
    network.to_empty(device="cpu")
    for weight in network.parameters():
        nn.init.normal_(weight)
    assert network.pretrained


def test_a_training_that_diverged_leaves_nothing_to_go_on_from(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    network = NiN(tiny)
    with pytest.raises(DivergenceError):
        train(network, few_of(few), replace(ONCE, optimizer="sgd", lr=1e30, clip_norm=None), out=tmp_path / "run", quiet=True)
    assert not network.pretrained
    with torch.no_grad():
        next(iter(network.parameters())).fill_(torch.nan)
    network.pretrained = False
    assert not network.pretrained


def test_a_network_into_which_nothing_was_read_is_not_trained(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    network.load_state_dict({}, strict=False)
    assert not network.pretrained
    network.load_state_dict(network.body.state_dict(prefix="body."), strict=False)
    assert network.pretrained
    network = NiN(tiny)
    around = nn.ModuleDict({"network": network, "other": nn.Linear(2, 2)})
    around.load_state_dict({f"other.{name}": value for name, value in nn.Linear(2, 2).state_dict().items()}, strict=False)
    assert not network.pretrained
    around.load_state_dict({f"network.{name}": value for name, value in NiN(tiny).state_dict().items()}, strict=False)
    assert network.pretrained


def test_a_training_that_breaks_off_leaves_the_network_untrained_and_goes_on_with_its_recipe(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken_off(run: Run) -> None:
        raise KeyboardInterrupt

    recipe = replace(ONCE, num_epochs=2, ema_decay=0.5, initialisation="he")  # the running mean is read in for the held-out pictures
    network = NiN(tiny)
    with pytest.raises(KeyboardInterrupt):
        train(network, few, recipe, out=tmp_path / "run", validation=0.1, quiet=True, on_epoch=broken_off)
    assert not network.pretrained
    network.load_state_dict(network.state_dict())
    capsys.readouterr()
    run = train(network, few, out=tmp_path / "run", validation=0.1, resume=True)
    assert "drawn anew" not in capsys.readouterr().err
    assert len(run.metrics) == 2
    assert run.config["recipe"]["initialisation"] == "he"


def test_torchs_random_numbers_go_on_as_if_nothing_was_trained(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run = train(tiny, few_of(few), ONCE, out=tmp_path / "run", quiet=True)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="validation is 2"):
        train(tiny, few, ONCE, out=tmp_path / "none", validation=2, quiet=True)
    (run.path / "result.json").unlink()
    train(NiN(tiny), few_of(few), out=run.path, resume=True, quiet=True)
    train(run.classifier, few_of(few), ONCE, out=tmp_path / "on", quiet=True)
    torch.manual_seed(7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "switch", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("meta")]
)
def test_what_the_caller_has_switched_to_changes_no_training(
    switch: Callable[[], AbstractContextManager[None]], tiny: NiNConfig, few: DatasetSplits, tmp_path: Path
) -> None:
    recipe = replace(ONCE, num_epochs=3, thinning=0.5)
    runs = [train(tiny, few, recipe, out=tmp_path / "usual", device="cpu", dtype="float32", quiet=True)]
    with switch():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        runs.append(train(tiny, few, recipe, out=tmp_path / "switched", device="cpu", dtype="float32", quiet=True))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")) == before
    assert_same_weights(*runs)


def test_bfloat16_learns_with_the_weights_that_it_keeps(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    # The head is torch's own, which autocast gives a bfloat16 copy of the weights; that of an earlier step would teach something else.
    config, recipe = replace(tiny, head="fc"), replace(ONCE, num_epochs=4, optimizer="sgd", lr=0.2)
    runs = [train(config, few, recipe, out=tmp_path / dtype, dtype=dtype, quiet=True) for dtype in ("float32", "bfloat16")]
    assert runs[1].result["test_loss"] == pytest.approx(runs[0].result["test_loss"], rel=0.05)


def test_a_run_can_be_resumed_where_no_gradients_are_wanted(trained: Run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained.path, tmp_path / "run"))
    (out / "result.json").unlink()
    with torch.inference_mode():
        assert_same_weights(resume(out, quiet=True), trained)


@pytest.mark.parametrize("change", [lambda network: network.body.requires_grad_(False), lambda network: network.double()])
def test_frozen_layers_and_float64_are_gone_on_with(
    change: Callable[[NiN], object], tiny: NiNConfig, few_file: Path, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop(_run: Run) -> None:
        raise StoppedError

    def changed() -> NiN:
        torch.manual_seed(0)
        network = NiN(tiny)
        change(network)
        return network

    twice = replace(ONCE, num_epochs=2, initialisation="as built")
    whole = train(changed(), few_file, twice, out=tmp_path / "whole", quiet=True)
    with pytest.raises(StoppedError):
        train(changed(), few_file, twice, out=tmp_path / "run", quiet=True, on_epoch=stop)
    with pytest.raises(ValueError, match=r"the run was begun with weights\.(frozen|dtype) = .*; resume it as it was begun"):
        train(NiN(tiny), few_file, out=tmp_path / "run", resume=True, quiet=True)
    assert_same_weights(resume(tmp_path / "run", quiet=True), whole)


def test_a_network_of_which_nothing_may_be_learned_is_refused(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all weights of the network are frozen"):
        train(NiN(tiny).requires_grad_(False), few, ONCE, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_trainings_in_several_threads_take_turns(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    alone = train(tiny, few, ONCE, out=tmp_path / "alone", quiet=True)
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda number: train(tiny, few, ONCE, out=tmp_path / str(number), quiet=True), range(3)))
    for run in runs:
        assert_same_weights(run, alone)
    assert not torch.are_deterministic_algorithms_enabled()


def test_who_hears_of_an_epoch_may_leave_the_network_in_evaluation_mode(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    twice, network = replace(ONCE, num_epochs=2), NiN(tiny)
    run = train(network, few, twice, out=tmp_path / "looked", quiet=True, on_epoch=lambda run: network.eval())
    assert_same_weights(run, train(tiny, few, twice, out=tmp_path / "usual", quiet=True))


def assert_same_weights(run: Run, other: Run) -> None:
    weights, others = (each.classifier.network.state_dict() for each in (run, other))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_resuming_draws_nothing_of_torchs_random_numbers(trained: Run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained.path, tmp_path / "run"))
    (out / "result.json").unlink()
    before = torch.get_rng_state()
    resume(out, quiet=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_does_not_fit_the_data_is_refused(few: DatasetSplits, tmp_path: Path) -> None:
    for changes, said in (({"in_channels": 3}, "in_channels=3, the data 1"), ({"num_classes": 7}, "num_classes=7, the data 10")):
        with pytest.raises(ValueError, match=said):
            train(create_model("nin_small", **changes), few, ONCE, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_small_pictures_are_brought_to_the_networks_size(few: DatasetSplits, tmp_path: Path) -> None:
    little = DatasetSplits(name="few", train=few.train.select(range(4)), test=few.test.select(range(4)), source="here")
    network = create_model("nin_d2l")
    assert min(little.train.image_size) < network.config.min_image_size
    run = train(network, little, replace(ONCE, batch_size=4), out=tmp_path / "run", quiet=True)
    assert run.classifier.preprocessing.height == 224


def test_a_head_of_one_size_gets_pictures_of_that_size(few: DatasetSplits, tmp_path: Path) -> None:
    run = train(create_model("nin_cifar10", in_channels=1, head="fc"), few_of(few), ONCE, out=tmp_path / "run", quiet=True)
    assert run.classifier.preprocessing.width == 32


def few_of(few: DatasetSplits) -> DatasetSplits:
    return DatasetSplits(name="few", train=few.train.select(range(8)), test=few.test.select(range(8)), source="here")


def test_what_a_run_recorded_is_found_again(trained: Run, few: DatasetSplits) -> None:
    config = trained.config
    splits = load_recorded(config["data"])
    assert (splits.train.checksum, splits.test.checksum) == (few.train.checksum, few.test.checksum)
    with pytest.raises(ValueError, match="not those of the training any more"):
        load_recorded({**config["data"], "checksums": {"train": "", "test": ""}})
    with pytest.raises(ValueError, match="arrays, which are not kept; name the data"):
        load_recorded({**config["data"], "source": "arrays"})


def test_named_data_that_are_not_to_be_had_say_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchnin.data.locate as locate_module

    monkeypatch.setattr(locate_module, "SYSTEM_FOLDER", tmp_path / "no-system-folder")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a port that nobody listens on: the download fails at once
    data = {"name": "fashion-mnist", "source": "elsewhere", "shape": [1, 28, 28], "split_seed": 0, "skipped": [], "checksums": {}}
    with pytest.raises(ValueError, match=r"fashion-mnist, which the training used, is not to be had here; to take fashion-mnist-sample"):
        load_recorded(data)


def test_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run to resume; leave out --resume"):
        resume(tmp_path)
    with pytest.raises(ValueError, match="resume goes on with the run in out, and out is None; give its folder"):
        train("nin_small", "fashion-mnist-sample", resume=True)


def test_a_study_of_several_seeds_is_no_run(trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "my study" / "seed-3")
    with pytest.raises(ValueError, match=r"holds the runs of several seeds; .* or with one alone: --resume --out '.*my study/seed-3'$"):
        resume(tmp_path / "my study")


def test_a_run_that_has_ended_needs_no_checkpoint(trained: Run, few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(trained.path, out)
    shutil.rmtree(out / "checkpoint")
    assert resume(out).result == trained.result
    assert train(NiNConfig.from_dict(trained.config["network"]), few_file, out=out, resume=True, quiet=True).result == trained.result
    (out / "result.json").unlink()
    with pytest.raises(ValueError, match="holds a run that has not ended, and no checkpoint to go on from; train anew with --overwrite"):
        resume(out)


def test_a_recipe_may_be_named(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "fast", ONCE)
    assert len(train(tiny, few, "fast", out=tmp_path / "run", quiet=True).metrics) == 1
    with pytest.raises(ValueError, match="no recipe is named 'fats'; did you mean fast"):
        train(tiny, few, "fats", out=tmp_path / "other", quiet=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": torch.nn.Linear(3, 3)}, "^network is of type Linear; accepted: a network's name, "),
        ({"recipe": {"lr": 1}}, "^recipe is of type dict; accepted: a Recipe, None, or one of the names fast, "),
        ({"data": [1, 2]}, "^data: expected a dataset's name, .*found list"),
        ({"data": None}, "^data: expected a dataset's name, .*found NoneType"),
        ({"name": 3}, "^name is of type int; accepted: text, or None"),
        ({"watcher": Silent}, "^watcher is the class Silent; accepted: what has a Display's methods, such as "),
        ({"watcher": print}, "^watcher is of type builtin_function_or_method; accepted: "),
        ({"on_epoch": "plot"}, "^on_epoch is of type str; accepted: a function, which is given the run"),
    ],
)
def test_what_is_of_another_type_is_told(changes: dict[str, Any], said: str, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    given: dict[str, Any] = {"network": tiny, "data": few, "recipe": ONCE, **changes}
    with pytest.raises(TypeError, match=said):
        train(**given, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_one_picture_whose_maps_have_one_value_cannot_be_normalised(few: DatasetSplits, tmp_path: Path) -> None:
    for pictures, size in ((few.train, 1), (few.train.select([0]), 80)):
        splits = replace(few, train=pictures)
        with pytest.raises(ValueError, match=r"a batch is 1 picture of 7x7, whose maps become 1x1, .*--batch-size.*--image-size"):
            train("nin_small", splits, replace(ONCE, batch_size=size, image_size=7), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    one = replace(few, train=few.train.select([0]))
    train("nin_small", one, replace(ONCE, image_size=15), out=tmp_path / "run", quiet=True)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_network_in_float64_is_trained_in_it(accumulate: int, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    network, recipe = NiN(tiny).double(), replace(ONCE, class_weights=True)
    run = train(network, few, recipe, out=tmp_path / "run", validation=0.25, accumulate=accumulate, quiet=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert {parameter.dtype for parameter in run.classifier.network.parameters()} == {torch.float32}
    assert 0 <= run.metrics[0]["validation_accuracy"] <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_few_bits_is_refused(dtype: torch.dtype, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"the network is in {dtype}, in which small steps are lost; give network\.float\(\)"):
        train(NiN(tiny).to(dtype), few, ONCE, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_network_without_weights_is_refused(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with torch.device("meta"):
        network = NiN(tiny)
    with pytest.raises(ValueError, match="on the meta device, where it has no weights; make it elsewhere"):
        train(network, few, ONCE, out=tmp_path / "run", quiet=True)


def test_validation_pictures_are_not_held_out_twice(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    splits = replace(few, validation=few.test.select(range(30)))
    with pytest.raises(ValueError, match=r"comes with 30 validation pictures; leave out validation=0\.1"):
        train(tiny, splits, ONCE, out=tmp_path / "run", validation=0.1, quiet=True)
    run = train(tiny, splits, ONCE, out=tmp_path / "run", quiet=True)
    assert 0 <= run.metrics[0]["validation_accuracy"] <= 1


def test_validation_pictures_that_changed_are_other_data(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    before, after = (few.test.select(range(first, first + 30)) for first in (0, 1))
    run = train(tiny, replace(few, validation=before), ONCE, out=tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="the run was begun with other data"):
        train(tiny, replace(few, validation=after), ONCE, out=run.path, resume=True, quiet=True)

    def write(validation: ImageDataset) -> None:
        parts = {"x_train": few.train, "x_val": validation, "x_test": few.test}
        arrays = {x: part.images for x, part in parts.items()} | {x.replace("x", "y", 1): part.labels for x, part in parts.items()}
        np.savez(tmp_path / "few.npz", **arrays)  # type: ignore[arg-type]

    write(before)
    recorded = describe_data(load_dataset(tmp_path / "few.npz"), len(few.train), len(before))
    write(after)
    with pytest.raises(ValueError, match="its pictures, labels or split are not those of the training any more; restore them"):
        load_recorded(recorded)
    earlier = {split: checksum for split, checksum in recorded["checksums"].items() if split != "validation"}
    assert load_recorded(recorded | {"checksums": earlier}).validation is not None


def test_pictures_in_a_folder_that_changed_are_refused(few: DatasetSplits, tiny: NiNConfig, tmp_path: Path) -> None:
    for number, (picture, label) in enumerate(zip(few.train.images[:40], few.train.labels[:40], strict=True)):
        folder = tmp_path / "photos" / few.class_names[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[0]).save(folder / f"{number}.png")
    run = train(tiny, tmp_path / "photos", replace(ONCE, batch_size=8), out=tmp_path / "run", quiet=True)
    (run.path / "result.json").unlink()
    changed = next((tmp_path / "photos").rglob("*.png"))
    Image.new("L", (28, 28), 200).save(changed)
    with pytest.raises(ValueError, match="its pictures, labels or split are not those of the training any more; restore them"):
        resume(run.path, quiet=True)


@pytest.mark.parametrize("kernel_size", [4_999_999_999, 10**30])
def test_a_recorded_network_that_cannot_be_made_is_told_by_name(trained: Run, kernel_size: int, tmp_path: Path) -> None:
    """Found by fuzzing: whole by its checksum, and larger than any memory."""
    out = Path(shutil.copytree(trained.path, tmp_path / "run"))
    (out / "result.json").unlink()
    config = Run(out).config
    config["network"]["blocks"][0]["kernel_size"] = kernel_size
    Run(out).write_config(config)
    with pytest.raises(DataError, match=r"config\.json is not what a training wrote: no network is made of it"):
        resume(out, quiet=True)


@pytest.mark.parametrize(("field", "value"), [("validation", [2, 2]), ("seed", "1"), ("name", None)])
def test_a_recorded_value_of_another_type_is_told(trained: Run, field: str, value: object, tmp_path: Path) -> None:
    """Found by fuzzing."""
    out = Path(shutil.copytree(trained.path, tmp_path / "run"))
    (out / "result.json").unlink()
    Run(out).write_config(Run(out).config | {field: value})
    with pytest.raises(DataError, match=r"config\.json is not what a training wrote: .*name, seed or validation.* of another type"):
        resume(out, quiet=True)
