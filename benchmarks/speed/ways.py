"""The ways that are compared: each trains, evaluates and predicts with the same network on the same pictures in batches of the same size.

A way is run in a process of its own (`python ways.py NAME CASE`), which does one turn for each line on its standard input and answers with
a line of JSON; so each has the start, the allocator and the peak of memory that its user would have.
"""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STARTED = time.perf_counter()


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, the side of its pictures in pixels, and how many make a batch."""

    network: str
    size: int
    batch: int
    epoch_batches: int
    """Of an epoch, so many are measured."""
    evaluated: int
    """Of the test pictures, so many are evaluated."""
    ways: tuple[str, ...] = ("notebooks", "plain", "torchnin")
    dtype: str = "auto"
    """In which torchnin trains, as `nin train --dtype` has it."""


CASES = {
    # The notebooks have 128 in a batch, which takes some ten seconds a step on two cores; per picture the ways differ alike.
    "nin_d2l": Case("nin_d2l", 224, 32, 4, 64),
    "nin_mnist": Case("nin_mnist", 28, 128, 8, 1024),
    "nin_small": Case("nin_small", 28, 512, 4, 2048, ("notebooks", "plain", "torchnin", "nin train")),
}
QUICK: dict[str, dict[str, int]] = {
    "nin_d2l": {"batch": 16, "epoch_batches": 1, "evaluated": 32},
    "nin_mnist": {"batch": 16, "epoch_batches": 2, "evaluated": 64},
    "nin_small": {"batch": 64, "epoch_batches": 2, "evaluated": 128},
}
# A GPU is done with so few before it is well begun. An epoch of nin_small is all 60,000 pictures.
GPU: dict[str, dict[str, Any]] = {
    "nin_d2l": {"batch": 128, "epoch_batches": 40, "evaluated": 2048},
    "nin_mnist": {"epoch_batches": 100, "evaluated": 10_000},
    "nin_small": {"epoch_batches": 117, "evaluated": 10_000},
}
# There the network is compiled as well; on a processor that is slower (docs/lab-log.md).
for _name in GPU:
    GPU[_name]["ways"] = (*CASES[_name].ways, "compiled")
SEED = 0
THROUGHPUT = 128  # pictures in the batch that is predicted at once


def case_of(name: str, device: str, dtype: str, *, quick: bool) -> Case:
    """What is measured of a network on a device."""
    return dataclasses.replace(CASES[name], dtype=dtype, **(QUICK[name] if quick else {} if device == "cpu" else GPU[name]))


class Way:
    """What every way can do; `turns` are the rows of the table."""

    def __init__(self, case: Case, device: str) -> None:
        import torch

        import torchnin

        self.case, self.device, self.torch = case, device, torch
        self.data = torchnin.load_dataset("fashion-mnist")
        torch.manual_seed(SEED)
        self.network: Any = torchnin.create_model(case.network)
        self.state = {name: value.clone() for name, value in self.network.state_dict().items()}

    def step(self) -> None:
        """One step of training on a batch that is loaded already."""
        raise NotImplementedError

    def epoch(self) -> None:
        """Some batches, loaded and learned."""
        raise NotImplementedError

    def evaluate(self) -> float:
        """Accuracy on some test pictures."""
        raise NotImplementedError

    def logits(self, count: int) -> Any:
        """`(count, classes)` of the first test pictures, as predicted."""
        raise NotImplementedError

    def wait(self) -> None:
        """Until the device has done what was asked of it."""
        if self.device.startswith("cuda"):
            self.torch.cuda.synchronize()


def plain_layers(network: Any) -> Any:
    """A NiN's layers as the notebooks write them: an `nn.Sequential` of blocks, ReLU not in place; the weights are the network's own."""
    from torch import nn

    def rewritten(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Sequential):
            return nn.Sequential(*map(rewritten, layer))
        return nn.ReLU() if isinstance(layer, nn.ReLU) else layer

    return nn.Sequential(*map(rewritten, network.body), rewritten(network.class_block), *map(rewritten, network.head))


class Notebooks(Way):
    """The notebooks' way: `load_data_fashion_mnist(batch, resize=size)` and `train_ch6`, written out.

    Each picture is resized by Pillow and made a tensor in one of four loader processes; float32, channels first, plain SGD,
    and the accuracy of every step is waited for. torchvision's classes, which do the first, are written out as well.
    """

    def __init__(self, case: Case, device: str) -> None:
        super().__init__(case, device)
        nn, torch = self.torch.nn, self.torch
        self.net = plain_layers(self.network).to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.loss = nn.CrossEntropyLoss()
        resize = case.size if case.size != 28 else None
        self.train_pictures = Pictures(self.data.train, resize)
        self.test_pictures = Pictures(self.data.test, resize)
        self.loaded = next(iter(self._loader(self.train_pictures, case.batch, workers=0)))

    def _loader(self, pictures: Any, count: int, workers: int = 4) -> Any:
        data = self.torch.utils.data
        return data.DataLoader(data.Subset(pictures, range(count)), self.case.batch, shuffle=True, num_workers=workers)

    def _learn(self, pictures: Any, labels: Any) -> tuple[float, float, int]:
        pictures, labels = pictures.to(self.device), labels.to(self.device)
        self.net.train()
        self.optimizer.zero_grad()
        predicted = self.net(pictures)
        loss = self.loss(predicted, labels)
        loss.backward()
        self.optimizer.step()
        with self.torch.no_grad():
            return float(loss * len(pictures)), accuracy(predicted, labels), len(pictures)

    def step(self) -> None:
        self._learn(*self.loaded)

    def epoch(self) -> None:
        for pictures, labels in self._loader(self.train_pictures, self.case.batch * self.case.epoch_batches):
            self._learn(pictures, labels)

    def evaluate(self) -> float:
        self.net.eval()
        right = 0.0
        with self.torch.no_grad():
            for pictures, labels in self._loader(self.test_pictures, self.case.evaluated):
                right += accuracy(self.net(pictures.to(self.device)), labels.to(self.device))
        return right / self.case.evaluated

    def logits(self, count: int) -> Any:
        self.net.eval()
        with self.torch.no_grad():
            return self.net(self.torch.stack([self.test_pictures[index][0] for index in range(count)]).to(self.device))


class Pictures:
    """`torchvision.datasets.FashionMNIST` with `Resize` and `ToTensor`, as `load_data_fashion_mnist` makes it."""

    def __init__(self, dataset: Any, resize: int | None) -> None:
        self.dataset, self.resize = dataset, resize

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import numpy as np
        import torch
        from PIL import Image

        picture = Image.fromarray(self.dataset.images[index, 0])
        if self.resize:
            picture = picture.resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.array(picture, copy=True)).view(picture.height, picture.width, 1)
        return values.permute(2, 0, 1).contiguous().to(torch.float32).div(255), int(self.dataset.labels[index])


def accuracy(predicted: Any, labels: Any) -> float:
    """`d2l.accuracy`: how many are right."""
    return float((predicted.argmax(axis=1).type(labels.dtype) == labels).type(labels.dtype).sum())


class Plain(Notebooks):
    """Plain PyTorch with a fast loader: the pictures lie in memory as one tensor, and a batch is resized at once, on the device."""

    def __init__(self, case: Case, device: str) -> None:
        super().__init__(case, device)
        torch = self.torch
        self.images = {part: torch.tensor(getattr(self.data, part).images, device=device) for part in ("train", "test")}
        self.labels = {part: torch.tensor(getattr(self.data, part).labels, device=device) for part in ("train", "test")}
        self.loaded = self._batch("train", torch.arange(case.batch, device=device))

    def _batch(self, part: str, indices: Any) -> tuple[Any, Any]:
        pictures = self.images[part][indices].float() / 255
        if self.case.size != 28:
            pictures = self.torch.nn.functional.interpolate(pictures, size=self.case.size, mode="bilinear")
        return pictures, self.labels[part][indices]

    def _learn(self, pictures: Any, labels: Any) -> Any:
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.loss(self.net(pictures), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def epoch(self) -> None:
        for indices in self.torch.randperm(self.case.batch * self.case.epoch_batches, device=self.device).split(self.case.batch):
            self._learn(*self._batch("train", indices))

    def evaluate(self) -> float:
        self.net.eval()
        with self.torch.no_grad():
            right = self.torch.zeros((), dtype=self.torch.int64, device=self.device)
            for indices in self.torch.arange(self.case.evaluated, device=self.device).split(self.case.batch):
                pictures, labels = self._batch("test", indices)
                right += (self.net(pictures).argmax(1) == labels).sum()
        return float(right) / self.case.evaluated

    def logits(self, count: int) -> Any:
        self.net.eval()
        with self.torch.no_grad():
            return self.net(self._batch("test", self.torch.arange(count, device=self.device))[0])


class Torchnin(Way):
    """torchnin, following the same procedure as the others: its `Training`, step by step, monitor and checks included."""

    recipe_name = "d2l"
    compile = False

    def __init__(self, case: Case, device: str) -> None:
        super().__init__(case, device)
        from torchnin import Classifier, choose_device, named_recipe
        from torchnin.commands.process import keep_freed_memory
        from torchnin.data import Preprocessing
        from torchnin.training.loop import Training
        from torchnin.training.options import Options
        from torchnin.training.processes import Processes

        keep_freed_memory()  # as `nin train` does, behind the reading of the data
        recipe = dataclasses.replace(named_recipe(self.recipe_name), batch_size=case.batch, initialisation="as built")
        recipe = recipe.fitted(num_pictures=len(self.data.train), mirror=True)
        if recipe.image_size is not None:
            recipe = dataclasses.replace(recipe, image_size=case.size)
        preprocessing = Preprocessing.of(self.data.train, image_size=recipe.image_size, normalise=recipe.normalise)
        silent = SimpleNamespace(note=print)
        run = SimpleNamespace(path=Path("no run folder"))
        self.training = Training(
            run, self.network, self.data.train, None, preprocessing, recipe, SEED, choose_device(device, case.dtype),
            Options(on_out_of_memory="stop", compile=self.compile), silent, Processes(),
        )  # fmt: skip
        self.loaded = next(self.training.batches.epoch(0))
        import copy

        fresh = copy.deepcopy(self.network)
        fresh.load_state_dict(self.state)
        self.classifier = Classifier(fresh, preprocessing, self.data.train.class_names, device=device)

    def _learn(self, batch: Any) -> None:
        self.training.advance(batch, self.training.step, 1.0)
        self.training.step += 1

    def step(self) -> None:
        self._learn(self.loaded)

    def epoch(self) -> None:
        for number, batch in enumerate(self.training.batches.epoch(0), 1):
            self._learn(batch)
            if number == self.case.epoch_batches:
                break

    def evaluate(self) -> float:
        return self.classifier.evaluate(self.data.test.select(range(self.case.evaluated))).accuracy

    def logits(self, count: int) -> Any:
        return self.classifier.logits(self.torch.tensor(self.data.test.images[:count]))

    def predict(self, count: int) -> None:
        """What a user calls: probabilities with class names."""
        pictures = self.data.test.images[:count]
        self.classifier.predict(pictures[0, 0] if count == 1 else pictures)


class NinTrain(Torchnin):
    """torchnin as `nin train` uses it: Muon, augmentation, easy pictures thinned out."""

    recipe_name = "fast"


class Compiled(Torchnin):
    """torchnin with the network compiled by torch: `nin train --compile`."""

    compile = True


def peak_memory() -> int:
    """Bytes of memory that this process has had at most.

    Linux counts into `ru_maxrss` what the process that started this one had by then, which for a benchmark is more than what is measured.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


WAYS: dict[str, type[Way]] = {
    "notebooks": Notebooks,
    "plain": Plain,
    "torchnin": Torchnin,
    "nin train": NinTrain,
    "compiled": Compiled,
}


def turns(way: Way) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The rows that a way can do, by name."""
    yield "step", way.step
    yield "epoch", way.epoch
    yield "evaluate", way.evaluate
    predict = way.predict if isinstance(way, Torchnin) else lambda count: way.logits(count).softmax(1).tolist()
    yield "latency", lambda: predict(1)
    yield "throughput", lambda: predict(THROUGHPUT)


def main() -> None:
    """Build a way, then do what standard input asks for."""
    _, name, case_name, device, dtype, quick = sys.argv
    if issubclass(WAYS[name], Torchnin):
        from torchnin.commands.process import set_up_process

        set_up_process(keep=False)
    case = case_of(case_name, device, dtype, quick=quick == "quick")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is said goes where people look

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    way = WAYS[name](case, device)
    known = dict(turns(way))
    answer(
        ready=time.perf_counter() - STARTED,
        parameters=sum(value.numel() for value in way.network.parameters()),
        batch=len(way.loaded[0]) if isinstance(way, Notebooks) else len(way.loaded.labels),
        threads=way.torch.get_num_threads(),
    )
    for line in sys.stdin:
        asked, repeat = line.rsplit(maxsplit=1)
        if asked == "logits":
            answer(logits=way.logits(16).tolist())
            continue
        if asked == "peak":
            answer(bytes=peak_memory() if device == "cpu" else way.torch.cuda.max_memory_allocated())
            continue
        begun = time.perf_counter()
        for _ in range(int(repeat)):
            known[asked]()
        way.wait()
        answer(seconds=(time.perf_counter() - begun) / int(repeat))


if __name__ == "__main__":
    main()
