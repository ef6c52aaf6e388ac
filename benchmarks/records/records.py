"""The records: what is trained, by which command, with how many seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torchnin

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A training whose accuracy is recorded over several seeds. What of it was chosen on test pictures, if anything, its card says."""

    arguments: str
    """Of `nin train`, without seed and places."""
    num_seeds: int
    """Seeds 0, 1, ... of the whole record; the first one ships, however it did."""
    chosen: str = "It was chosen on train pictures that were held out"
    """How the recipe was come by, as the model card says it."""
    chosen_zh: str = "配方只根据留出的训练图片选择"
    """The same in Chinese."""
    ending: str = "; nothing was chosen on test pictures."
    """What follows: which part the test pictures had in it."""
    ending_zh: str = "；没有用测试图片选择任何东西。"
    """The same in Chinese."""
    stand_in: bool = False
    """Whether it stands in for a longer training that the goal asks for; the README says so."""
    told: bool = False
    """Whether the README tells of it although its weights do not ship."""

    @property
    def command(self) -> str:
        """As a user types it."""
        return f"nin train {self.arguments}"


RECORDS = {
    "fashion-mnist-small": Record(
        arguments="fashion-mnist --image-size 56 --recipe long --num-epochs 64 --muon-lr 0.1",
        num_seeds=5,
        chosen="The same command on train pictures of which 10,000 were held out had 94.78 % of those, `long` as it is (48 epochs) "
        "94.57 %; the held-out pictures decided between these two",
        chosen_zh="同样的命令在训练图片中留出 10,000 张时，在留出图片上的准确率为 94.78%，`long` 原样（48 轮）为 94.57%；"
        "两者之间由留出的图片决定",
    ),
    "fashion-mnist-large": Record(
        arguments="fashion-mnist --model nin_large --recipe long --erase 0.5",
        num_seeds=5,
        chosen="The recipe is `long` as it is, chosen on held-out pictures for `nin_deep`; a rectangle in half of the pictures, for a "
        "network with seven times as many weights, was set beforehand and compared with nothing. Other work ran beside the training",
        chosen_zh="配方就是 `long` 原样，是用留出的图片为 `nin_deep` 选择的；半数图片中擦除一个矩形（网络的权重多六倍）是事先定下的，"
        "没有与别的比较过。训练时同时有别的工作",
        told=True,
    ),
    "fashion-mnist-small-24": Record(
        arguments="fashion-mnist --image-size 56 --num-epochs 24 --erase 0.25",
        num_seeds=1,
        chosen="56 pixels and erasing were tried on train pictures that were held out; 24 epochs, what one core does in an hour or two, "
        "were set beforehand",
        chosen_zh="56 像素和擦除在留出的训练图片上试过；24 轮（一个核一两小时能做的）是事先定下的",
    ),
    "fashion-mnist-compact": Record(
        arguments="fashion-mnist --model nin_compact --num-epochs 24 --erase 0.25",
        num_seeds=1,
        chosen="The network's shape was tried on train pictures that were held out; 24 epochs, what one core does in two hours, and "
        "erasing, which had helped `nin_small` on held-out pictures, were set beforehand. Afterwards the same seed was trained for 60 "
        "epochs with twice as much erasing (`--num-epochs 60 --erase 0.5`): 94.55 % of the test pictures, and these weights stayed",
        ending=". So between these two the test pictures decided, and nothing else.",
        ending_zh="。也就是说，只有这两者之间的取舍是由测试图片决定的。",
        chosen_zh="网络的形状在留出的训练图片上试过；24 轮（一个核两小时能做的）和擦除（在留出图片上对 `nin_small` 有帮助）是事先定下的。"
        "之后用同一个种子训练了 60 轮、擦除加倍（`--num-epochs 60 --erase 0.5`）：测试图片 94.55%，于是保留了这份权重",
    ),
    "fashion-mnist-deep-64": Record(
        arguments="fashion-mnist --model nin_deep --recipe long --num-epochs 64 --muon-lr 0.1",
        num_seeds=5,
        chosen="The same command on train pictures of which 10,000 were held out had 95.50 % of those; it was chosen among six trainings "
        "of 32 and 64 epochs there, before it had met a test picture. It took the place of `long` as it is, 48 epochs, which has 94.96 % "
        "of the test pictures. Seed 0 was trained on one thread beside other work for its first 24 epochs, then stopped, and on two",
        chosen_zh="同样的命令在训练图片中留出 10,000 张时，在留出图片上的准确率为 95.50%；它是在那里从 32 轮和 64 轮的六次训练中选出的，"
        "那时它还没有见过测试图片。它取代了 `long` 原样的 48 轮（测试图片 94.96%）。"
        "种子 0 的前 24 轮用一个线程、与别的工作同时进行，停下后用两个线程继续",
    ),
    "fashion-mnist-deep": Record(
        arguments="fashion-mnist --model nin_deep --recipe long --num-epochs 128 --optimizer sgd --lr 0.1 --schedule cosine --warmup 0.05 "
        "--batch-size 128 --erase 0.5",
        num_seeds=5,
        chosen="SGD with these numbers, with which residual networks are trained, was tried for 64 epochs on train pictures of which "
        "10,000 were held out: 95.55 % of those, where Muon had 95.50 %; twice the epochs were set beforehand. Seeds 0 and 1 were begun "
        "in Python with the same recipe, before the command had these flags. When they had 95.17 and 95.29 % of the test pictures, it was "
        "set to take the place of Muon's training of as many epochs (benchmarks/records has it as `fashion-mnist-deep-muon`: 95.07 % by "
        "three seeds), whatever the other three would reach",
        ending=". So between these two the test pictures decided, and nothing else.",
        ending_zh="。也就是说，只有这两者之间的取舍是由测试图片决定的。",
        chosen_zh="SGD 及这些数值（残差网络就是这样训练的）在训练图片中留出 10,000 张时试过 64 轮：留出图片上 95.55%，Muon 为 95.50%；"
        "两倍的轮数是事先定下的。种子 0 和 1 是用同样的配方在 Python 中开始的，那时命令还没有这些选项。"
        "当这两个种子在测试图片上达到 95.17% 和 95.29% 时，"
        "就定下由它取代同样轮数的 Muon 训练（见 benchmarks/records 的 `fashion-mnist-deep-muon`：三个种子平均 95.07%），"
        "无论其余三个种子结果如何",
    ),
    "fashion-mnist-deep-muon": Record(
        arguments="fashion-mnist --model nin_deep --recipe long --num-epochs 128 --muon-lr 0.1 --erase 0.5",
        num_seeds=5,
        chosen="Muon's rate was chosen on held-out pictures for 64 epochs; twice the epochs, and rectangles in twice as many pictures, "
        "were set beforehand",
        chosen_zh="Muon 的学习率是用留出的图片为 64 轮选择的；两倍的轮数，以及在两倍的图片中擦除矩形，是事先定下的",
    ),
    "fashion-mnist-deep-48": Record(
        arguments="fashion-mnist --model nin_deep --recipe long",
        num_seeds=1,
        chosen="The network's shape, batches of 256, and the weights' norms kept for 32 epochs were tried on train pictures that were held "
        "out; 48 epochs, what one core with matrix units does in half an hour to one, were set beforehand, and erasing had helped "
        "`nin_small` on held-out pictures. Seed 0 was stopped twice and went on with faster kernels for the same convolutions",
        chosen_zh="网络的形状、每批 256 张和保持权重的范数（32 轮）在留出的训练图片上试过；48 轮（一个有矩阵单元的核半小时到一小时"
        "能做的）是事先定下的，擦除在留出图片上对 `nin_small` 有帮助。种子 0 停过两次，之后用同样的卷积、更快的内核继续",
    ),
    "fashion-mnist-deep-24": Record(
        arguments="fashion-mnist --model nin_deep --num-epochs 24 --erase 0.25 --batch-size 256",
        num_seeds=2,
        chosen="The network's shape and batches of 256 were tried on train pictures that were held out, for 16 epochs; 24 epochs, what one "
        "core with matrix units does in half an hour, and erasing, which had helped `nin_small` on held-out pictures, were set beforehand",
        chosen_zh="网络的形状和每批 256 张在留出的训练图片上试过（16 轮）；24 轮（一个有矩阵单元的核半小时能做的）"
        "和擦除（在留出图片上对 `nin_small` 有帮助）是事先定下的",
    ),
    "fashion-mnist-small-28": Record(arguments="fashion-mnist --num-epochs 40", num_seeds=1),
    "fashion-mnist-d2l": Record(
        arguments="fashion-mnist --model nin_d2l --image-size 224",
        num_seeds=5,
        chosen="It is the recipe `steady`, whose rates, and that it keeps the weights' norms, were chosen on held-out pictures for a "
        "narrow network of the same depth; 224 pixels and ten epochs are the notebooks'",
        chosen_zh="它就是配方 `steady`，学习率以及保持权重的范数是用留出的图片为同样深度的窄网络选择的；224 像素和十轮是笔记本的",
    ),
    "fashion-mnist-d2l-unlevelled": Record(
        arguments="fashion-mnist --model nin_d2l --image-size 224 --no-level-class-maps",
        num_seeds=1,
        chosen="It is the recipe `steady` as it was before it levelled the class maps. Its rates, and that it keeps the weights' norms, "
        "were chosen on held-out pictures for a narrow network of the same depth; 224 pixels and ten epochs are the notebooks'. Seed 0 was "
        "stopped once and went on",
        chosen_zh="它是还不调平类别图时的配方 `steady`，学习率以及保持权重的范数是用留出的图片为同样深度的窄网络选择的；"
        "224 像素和十轮是笔记本的。种子 0 停过一次，之后继续",
    ),
    "fashion-mnist-d2l-free": Record(
        arguments="fashion-mnist --model nin_d2l --image-size 224 --no-keep-norms --no-level-class-maps",
        num_seeds=1,
        chosen="It is the recipe `steady` as it was before it kept the weights' norms, whose rates were chosen on held-out pictures for a "
        "narrow network of the same depth; 224 pixels and ten epochs are the notebooks'. Seed 0 was trained by "
        "`benchmarks/every_seed/cure.py --only steady`, which did what this command does: three epochs and a part of the fourth on one "
        "thread, the rest on two",
        chosen_zh="它是还不保持权重范数时的配方 `steady`，学习率是用留出的图片为同样深度的窄网络选择的；224 像素和十轮是笔记本的。"
        "种子 0 由 `benchmarks/every_seed/cure.py --only steady` 训练，所做的与这条命令相同：前三轮和第四轮的一部分用一个线程，其余用两个",
    ),
    "fashion-mnist-d2l-112": Record(
        arguments="fashion-mnist --model nin_d2l --image-size 112",
        num_seeds=1,
        chosen="It is the recipe `steady`, whose rates, and that it keeps the weights' norms, were chosen on held-out pictures for a "
        "narrow network of the same depth; 112 pixels instead of the notebooks' 224, and ten epochs, were set beforehand",
        chosen_zh="它就是配方 `steady`，学习率以及保持权重的范数是用留出的图片为同样深度的窄网络选择的；"
        "112 像素（代替笔记本的 224 像素）和十轮是事先定下的",
    ),
    "fashion-mnist-d2l-112-free": Record(
        arguments="fashion-mnist --model nin_d2l --image-size 112 --no-keep-norms --no-level-class-maps",
        num_seeds=1,
        chosen="Its rates are those of the recipe `steady`, which did not keep the weights' norms yet, chosen on held-out pictures for a "
        "narrow network of the same depth; 112 pixels instead of the notebooks' 224 and ten epochs, what one core does in two to three "
        "hours, were set beforehand. Afterwards the same seed was trained with shifts and erasing as well (`--shift 2 --erase 0.25`): "
        "92.66 % of the test pictures, and these weights stayed",
        ending=". So between these two the test pictures decided, and nothing else.",
        ending_zh="。也就是说，只有这两者之间的取舍是由测试图片决定的。",
        chosen_zh="学习率取自配方 `steady`（那时还不保持权重的范数），是用留出的图片为同样深度的窄网络选择的；112 像素（代替笔记本的 224 "
        "像素）和十轮（一个核两三小时能做的）是事先定下的。之后用同一个种子加上平移和擦除（`--shift 2 --erase 0.25`）又训练了一次：测试图"
        "片 92.66%，于是保留了这份权重",
    ),
    # A digit's mirror image is no digit.
    "mnist": Record(
        arguments="mnist --model nin_mnist --num-epochs 8 --no-flip --shift 1",
        num_seeds=5,
        chosen="It is the recipe `steady`, whose rates, and that it keeps the weights' norms, were chosen on train pictures that were held "
        "out; eight epochs, no flips and shifts by one pixel were set beforehand and compared with nothing",
        chosen_zh="它就是配方 `steady`，学习率以及保持权重的范数根据留出的训练图片选择；八轮、不翻转和平移一个像素是事先定下的，"
        "没有与别的比较过",
    ),
    "mnist-unlevelled": Record(
        arguments="mnist --model nin_mnist --num-epochs 8 --no-flip --shift 1 --no-level-class-maps",
        num_seeds=5,
        chosen="It is of before `steady` levelled the class maps. Its rates, and that the weights' norms are kept, were chosen on train "
        "pictures that were held out; eight epochs, no flips and shifts by one pixel were set beforehand and compared with nothing",
        chosen_zh="当时 `steady` 还不调平类别图。学习率以及保持权重的范数根据留出的训练图片选择；"
        "八轮、不翻转和平移一个像素是事先定下的，没有与别的比较过",
    ),
    "mnist-free": Record(
        arguments="mnist --model nin_mnist --num-epochs 8 --no-flip --shift 1 --no-keep-norms --no-level-class-maps",
        num_seeds=5,
        chosen="It is of before `steady` kept the weights' norms. Its rates were chosen on train pictures that were held out; eight "
        "epochs, no flips and shifts by one pixel were set beforehand and compared with nothing",
        chosen_zh="当时 `steady` 还不保持权重的范数。学习率根据留出的训练图片选择；八轮、不翻转和平移一个像素是事先定下的，没有与别的比较"
        "过",
    ),
    "cifar-10": Record(
        arguments="cifar-10 --model nin_cifar10 --num-epochs 100 --shift 4 --erase 0.25 --keep-norms --muon-momentum 0.9 --muon-lr 0.03 "
        "--lr 0.02 --no-level-class-maps",
        num_seeds=5,
        chosen="Seven trainings of up to six epochs on train pictures of which 10,000 were held out chose the norms, the momentum and the "
        "rates; 100 epochs, what two cores with matrix units do in an hour and a half, shifts by four pixels and a rectangle in a quarter "
        "of the pictures were set beforehand and compared with nothing. Other work ran beside it. A training of the recipe `steady` as it "
        "was then, the norms not kept, 120 epochs, had had 86.43 % of the test pictures before, which showed that something was wrong; "
        "what was wrong, its weights and its train pictures showed",
        ending="; between the two trainings nothing was chosen on test pictures.",
        chosen_zh="在训练图片上做了七次至多六轮的训练，留出 10,000 张，由此选定了范数、动量和学习率；100 轮（两个有矩阵单元的核"
        "一个半小时能做的）、平移四个像素、四分之一的图片中擦除一个矩形，都是事先定下的，没有与别的比较过。训练时同时有别的工作。"
        "此前按当时的配方 `steady`（不保持范数）训练 120 轮，在测试图片上的准确率为 86.43%，由此看出有问题；"
        "问题在哪里，是从它的权重和训练图片看出的",
        ending_zh="；这两次训练之间没有用测试图片选择任何东西。",
    ),
    "cifar-10-120": Record(
        arguments="cifar-10 --model nin_cifar10 --num-epochs 120 --shift 4 --erase 0.25 --no-keep-norms --no-level-class-maps",
        num_seeds=1,
        chosen="It is the recipe `steady` as it was before it kept the weights' norms, whose rate for Muon was better than two fifths of "
        "it after six epochs on held-out pictures; 120 epochs, shifts by four pixels and a rectangle in a quarter of the pictures were "
        "set beforehand and compared with nothing. It was stopped five times, and other work ran beside it",
        chosen_zh="它是还不保持权重范数时的配方 `steady`，Muon 的学习率在留出的图片上六轮之后优于其五分之二；120 轮、平移四个像素、"
        "四分之一的图片中擦除一个矩形，都是事先定下的，没有与别的比较过。它停过五次，训练时同时有别的工作",
    ),
    "cifar-10-base": Record(
        arguments="cifar-10 --model nin_base --recipe long --num-epochs 60 --shift 4 --erase 0.5",
        num_seeds=5,
        chosen="The recipe was chosen on held-out pictures of Fashion-MNIST; 60 epochs, shifts by four pixels and a rectangle in half "
        "of the pictures, as residual networks are trained there, were set beforehand and compared with nothing. Seed 0 was stopped "
        "three times and went on with faster kernels for the same convolutions, from the twentieth epoch on with two threads in place "
        "of one; the network was called `nin_deep_base` then",
        chosen_zh="配方是用 Fashion-MNIST 的留出图片选择的；60 轮、平移四个像素、半数图片中擦除一个矩形（残差网络在这里就是这样训练的），"
        "都是事先定下的，没有与别的比较过。种子 0 停过三次，之后用同样的卷积、更快的内核继续，从第二十轮起用两个线程代替一个；"
        "那时这个网络叫 `nin_deep_base`",
    ),
}

# They say where and how far a training goes, not what it learns.
_PLACES = {"seed", "seeds", "first-seed", "out", "data-dir", "device"}
_MANNERS = {"json", "watch", "resume", "overwrite", "skip-broken"}


def choices(arguments: Sequence[str]) -> dict[str, str]:
    """What the arguments of `nin train` choose, whatever their order: values by flag, the data as `data`."""
    found = {"data": "fashion-mnist"}
    waiting = None
    for word in arguments:
        if word.startswith("--"):
            waiting, equals, value = word[2:].replace("_", "-").partition("=")
            found[waiting] = value
            if equals:
                waiting = None
        else:
            found[waiting or "data"] = word
            waiting = None
    return {flag: value for flag, value in found.items() if flag not in _PLACES | _MANNERS}


def by_command(config: Mapping[str, Any]) -> bool:
    """Whether a run was made by `nin train` or by the study of `steady`, and not by some script."""
    program, *words = config["command"]
    return Path(program).name == "cure.py" or words[:1] == ["train"]


def made_by(config: Mapping[str, Any]) -> dict[str, str]:
    """What the command that a run's `config.json` records chose.

    The study of `steady` (`benchmarks/every_seed/cure.py`) trains as `nin train` does with its network, size and epochs.

    Raises:
        ValueError: the run was made by neither, or by another variant of the study.
    """
    program, *words = config["command"]
    if Path(program).name == "cure.py":
        found = choices(words)
        if found.pop("only", None) == "steady" and set(found) <= {"data", "model", "image-size"}:
            size = torchnin.model_entry(found.setdefault("model", "nin_d2l")).config.image_size
            return {"image-size": str(size), **found}
    elif words[:1] == ["train"]:
        return choices(words[1:])
    raise ValueError(f"the run was made by {' '.join(config['command'])!r}, and a record is made by nin train")
