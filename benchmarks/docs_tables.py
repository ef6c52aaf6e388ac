"""The tables of the pages of docs/, made from the recorded results; of most in both languages.

python benchmarks/docs_tables.py            write them
python benchmarks/docs_tables.py --check    fail where they are not what the results say
"""

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pages
import prediction_tables

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
MIB = 1024 * 1024

# Words of the tables, English and Chinese; what is not here stands as it is.
WORDS: dict[str, tuple[str, str]] = {
    "test accuracy": ("test accuracy", "测试准确率"),
    "bytes": ("bytes", "字节数"),
    "largest difference of a probability": ("largest difference of a probability", "概率的最大差异"),
    **{
        f"processor's milliseconds, {count} at once": (f"processor's milliseconds, {count} at once", f"处理器毫秒数，每次 {count} 张")
        for count in (1, 8, 64, 256)
    },
    "predict by torch": ("`Classifier.predict`, torch alone", "`Classifier.predict`，只用 torch"),
    "predict by torch now": (
        "Measured before predict took onnxruntime where it is installed; as it is now: [speed.md](speed.md).",
        "测量时 predict 还不使用 onnxruntime；现在的速度见 [speed.zh-CN.md](speed.zh-CN.md)。",
    ),
    "file, float32": ("file, float32", "文件，float32"),
    "file, int8": ("file, int8", "文件，int8"),
    "connections": ("connections", "连接数"),
    "{count}, forms of {pictures}": ("{count}, forms of {pictures}", "{count}，每个表单 {pictures} 张"),
    "millions of multiply-adds": ("millions of multiply-adds", "乘加次数（百万）"),
    "1 connection": ("1 connection", "1 个连接"),
    "8 connections": ("8 connections", "8 个连接"),
    "64 connections": ("64 connections", "64 个连接"),
    "p99 over median, 8 connections": ("p99 over median, 8 connections", "p99 与中位数之比，8 个连接"),
    "pictures/s": ("pictures/s", "张/秒"),
    "`predict`, pictures/s": ("`predict`, pictures/s", "`predict`，张/秒"),
    "share (rounds)": ("share (rounds)", "比例（各轮）"),
    "share of `predict` with as many at once": ("share of `predict` with as many at once", "与 `predict` 每次同样多张相比"),
    "median, p99 ms": ("median, p99 ms", "中位数、p99，毫秒"),
    "p99 over median": ("p99 over median", "p99 与中位数之比"),
    "pictures a batch": ("pictures a batch", "每批张数"),
    "processor ms: service, wrk, `predict`": ("processor ms: service, wrk, `predict`", "处理器毫秒：服务、wrk、`predict`"),
    "network": ("network", "网络"),
    "parameters": ("parameters", "参数"),
    "macs": ("multiply-adds", "乘加次数"),
    "predict": ("memory to predict", "预测所需内存"),
    "train": ("memory to train", "训练所需内存"),
    "held out": ("held-out accuracy", "留出图片上的准确率"),
    "test": ("test accuracy", "测试准确率"),
    "what": ("what", "做法"),
    "dead": ("dead class maps", "死掉的类别图"),
    "spread": ("{mean:.2%} ({low:.2%} to {high:.2%}, {n} seeds)", "{mean:.2%}（{low:.2%} 至 {high:.2%}，{n} 个种子）"),
    "once": ("{mean:.2%} (one seed)", "{mean:.2%}（一个种子）"),
    "none": ("no 1x1", "没有 1x1"),
    "one": ("one 1x1", "一个 1x1"),
    "two": ("two 1x1", "两个 1x1"),
    "three": ("three 1x1", "三个 1x1"),
    "gap": ("global average pooling", "全局平均汇聚"),
    "fc": ("a fully connected layer on the class maps", "类别图上的全连接层"),
    "at once": ("96 to 10 at once", "96 一步到 10"),
    "in two steps": ("96 to 96, then to 10", "96 到 96，再到 10"),
    "notebook": ("the chapter's recipe, rate .1", "本章的配方，学习率 0.1"),
    "notebook lr .02": ("rate .02", "学习率 0.02"),
    "notebook lr .5": ("rate .5", "学习率 0.5"),
    "steady": (
        "living class maps, Muon, warm-up, cosine, normalised pixels (`steady`)",
        "类别图从活着开始、Muon、预热、余弦、像素规范化（`steady`）",
    ),
    "steady, normalised": ("that, and batch normalisation", "再加批量规范化"),
    "fast": ("batch normalisation, no ReLU on the class maps, Muon (`fast`)", "批量规范化、类别图上无 ReLU、Muon（`fast`）"),
    "convolutions": ("in convolutions", "卷积层中"),
    "connected": ("in fully connected layers", "全连接层中"),
    "share": ("share of these", "后者占比"),
    "AlexNet, the book's": ("AlexNet, the book's (10 classes)", "AlexNet，书中的（10 类）"),
    "VGG-11, the book's": ("VGG-11, the book's (10 classes)", "VGG-11，书中的（10 类）"),
    "AlexNet, 2012": ("AlexNet, 2012 (1000 classes)", "AlexNet，2012（1000 类）"),
    "VGG-16, 2014": ("VGG-16, 2014 (1000 classes)", "VGG-16，2014（1000 类）"),
    "nin_d2l": ("`nin_d2l` (10 classes)", "`nin_d2l`（10 类）"),
    "nin_imagenet": ("`nin_imagenet` (1000 classes)", "`nin_imagenet`（1000 类）"),
    "zeroed": ("values zeroed", "被置零的值"),
    "whole": ("channels wholly zero", "全部为零的通道"),
    "rest": ("what stays becomes", "留下的值变为"),
    "mean": ("mean of a channel, over draws", "通道均值（多次抽取）"),
    "deviation": ("its standard deviation", "其标准差"),
    "places": ("places", "位置数"),
    "values": ("parameters of the convolution, of the layer", "卷积的参数、全连接层的参数"),
    "difference": ("largest difference of their outputs", "两者输出的最大差"),
    "stop": (".", "。"),
    "classifier": (
        "{shown}: `{network}`, {maps} class maps, {epochs} epochs, seed {seed}, {right:.1%} of the 500 right{stopped}",
        "{shown}：`{network}`，类别图 {maps}，{epochs} 轮，种子 {seed}，500 张中答对 {right:.1%}{stopped}",
    ),
    "stopped": (" (training stopped at {at})", "（训练止于 {at}）"),
    "data": ("data, cover", "数据，遮盖"),
    "area": ("area", "面积"),
    "pointed": ("where the map is highest", "类别图最高处"),
    "random": ("at random", "随机位置"),
    "lowest": ("where it is lowest", "最低处"),
    "more": ("highest less random (95 % interval)", "最高处减随机（95% 区间）"),
    "exchanged": ("highest less another picture's highest (95 % interval)", "最高处减另一张图片的最高处（95% 区间）"),
    "black": ("black", "黑色"),
    "mean colour": ("mean colour", "平均颜色"),
    "blur": ("blurred picture", "模糊后的图片"),
    "class": ("class", "类别"),
    "pictures": ("pictures", "图片数"),
    "computed in": ("computed in", "所用精度"),
    "to": ("to", "至"),
    "count": ("pictures", "图片数"),
    "processor": ("seconds of processor", "处理器秒数"),
    "seconds": ("seconds by the clock", "实际秒数"),
    "load": ("load average before it", "此前的平均负载"),
    "peak": ("peak memory of the process", "进程的峰值内存"),
    "start": ("start", "初始化"),
    "d2l start": ("the notebooks' (Xavier)", "笔记本的（Xavier）"),
    "steady start": ("`steady`", "`steady`"),
    "network start": ("as published, 224 pixels", "原样，224 像素"),
    "network start-mnist": ("`nin_mnist`, 28 pixels", "`nin_mnist`，28 像素"),
    "network start-cifar10": ("`nin_cifar10`, 32 pixels", "`nin_cifar10`，32 像素"),
    "network start-narrow": ("narrow, 67 pixels", "窄，67 像素"),
    "differs 1": ("differs after convolution 1", "卷积 1 后随图片而变"),
    "differs 12": ("in the class maps", "类别图中随图片而变"),
    "gradient 1": ("gradient norm, convolution 1", "梯度范数，卷积 1"),
    "dead first": ("dead maps, median (range)", "死图数，中位数（范围）"),
    "always": ("neither dead nor on for every picture", "既非全死、也非对每张图片都亮"),
    "seed": ("seed", "种子"),
    "dead at": ("dead maps at step {steps}", "第 {steps} 步时的死图数"),
    "living mean": ("mean of the living maps, first and last step", "活图的均值，首步与末步"),
    "best loss": ("loss, last rows", "末几行的损失"),
    "left chance": ("accuracy above .2 from step", "准确率超过 0.2 始于第几步"),
    "most dead": ("most maps dead at once", "同时死掉的图数最多"),
    "revived": ("maps that were dead and lived at the end", "曾死而最终活着的图数"),
    "end": ("test accuracy after {epochs} epochs", "{epochs} 轮后的测试准确率"),
    "epoch ends": ("ends of epochs", "轮末次数"),
    "lost": ("classes with recall below .1, on average", "召回率低于 0.1 的类别数（平均）"),
    "lost dead": ("of these with a dead map", "其中图已死"),
    "lost starved": ("nearly dead: a tenth of the median gradient at most", "几乎已死：梯度不到中位数的十分之一"),
    "lost alive": ("of these with a living map", "其中图活着"),
    "weakest": ("lowest recall of a class with a living map", "有活图的类别中最低的召回率"),
    "change": ("change", "改动"),
    "stayed": ("at chance", "停在随机猜测的水平"),
    "with dead": ("with dead maps", "有死图"),
    "middle": ("test accuracy, median (range)", "测试准确率，中位数（范围）"),
    "variant": ("recipe", "配方"),
    "seed count": ("seeds", "种子数"),
    "at chance": ("below .2", "低于 0.2"),
    "below .8": ("below .8", "低于 0.8"),
    "failures": ("failures", "失败"),
    "steps": ("steps", "步数"),
    "most dead over test": ("most maps dead over the test pictures", "对全部测试图片为死图的最多张数"),
    "held out median": ("held-out accuracy, median (range)", "留出图片上的准确率，中位数（范围）"),
    "never": ("never", "从未"),
    "warned": ("`--on-collapse warn`", "`--on-collapse warn`"),
    "recovered": ("`--on-collapse recover`", "`--on-collapse recover`"),
    "recoveries": ("recoveries", "恢复次数"),
    "test median": ("test accuracy, median (range)", "测试准确率，中位数（范围）"),
    "dead end": ("dead maps", "死图数"),
    "watched step": ("a step", "一步"),
    "own": ("of it the monitor", "其中监视"),
    "own share": ("share", "占比"),
    "gave up": ("gave up", "放弃"),
    "change none": ("none: the notebooks' recipe", "无：笔记本的配方"),
    "change bias 1": ("the class maps' bias is 1 at the start", "类别图偏置从 1 开始"),
    "change leaky": ("the last ReLU lets a tenth of negative values through", "最后的 ReLU 让负值的十分之一通过"),
    "change no last ReLU": ("no last ReLU", "去掉最后的 ReLU"),
    "change alive": ("the start of `steady`", "`steady` 的初始化"),
    "change lr .02": ("learning rate .02", "学习率 0.02"),
    "change lr .05": ("learning rate .05", "学习率 0.05"),
    "change alive, lr .02": ("the start of `steady`, learning rate .02", "`steady` 的初始化，学习率 0.02"),
    "cure steady": ("`steady`", "`steady`"),
    "cure without Muon": ("SGD alone, rate .02", "只用 SGD，学习率 0.02"),
    "cure without Muon, rate .1": ("SGD alone, rate .1, warmed up over a fifth", "只用 SGD，学习率 0.1，预热五分之一"),
    "cure rate .05 for the first and last layer": ("rate .05 for the first and last layer", "首层和末层的学习率 0.05"),
    "cure Xavier initialisation": ("with the notebooks' start (Xavier)", "改用笔记本的初始化（Xavier）"),
    "cure initialisation as built": ("with PyTorch's start", "改用 PyTorch 的初始化"),
    "cure without living class maps": ("He start, class maps' bias 0", "He 初始化，类别图偏置为 0"),
    "cure without warm-up": ("without warm-up", "不预热"),
    "cure without clipping": ("without clipping", "不裁剪梯度"),
    "cure norms not kept": ("norms not kept", "不保持权重的范数"),
    "cure maps not levelled": ("class maps not levelled", "类别图不调平"),
    "cure norms not kept, maps not levelled": ("neither norms kept nor class maps levelled", "既不保持范数，也不调平类别图"),
    "cure without momentum": ("without momentum (SGD's rate times ten)", "不用动量（SGD 的学习率乘十）"),
    "cure constant learning rate": ("constant rate after the warm-up", "预热后学习率不变"),
    "cure pixels in [0, 1]": ("pixels in [0, 1]", "像素在 [0, 1] 内"),
    "cure without weight decay": ("without weight decay", "不用权重衰减"),
    "cure without flips": ("without flips", "不翻转"),
    "cure the notebooks'": ("the notebooks' recipe", "笔记本的配方"),
}


def say(language: str, key: str, **values: Any) -> str:
    """A word in a language; any other text as it is."""
    text = WORDS[key][language == "zh"] if key in WORDS else key
    return text.format(**values) if values else text


def recorded(*names: str) -> dict[str, Any]:
    """A recorded result, by where it lies below this folder."""
    return pages.recorded(HERE.joinpath(*names))


def table(language: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """`pages.table` with its header in a language."""
    return pages.table([say(language, word) for word in header], rows, left)


def counts(language: str, exercise: str) -> str:
    """The four resource counts of the exercise's networks."""
    rows = [
        (
            f"`{row['name']}`",
            f"{row['num_parameters']:,}",
            f"{row['num_macs']:,}",
            f"{row['predict_bytes'] / MIB:.1f} MiB",
            f"{row['train_bytes'] / MIB:.1f} MiB",
        )
        for row in recorded("exercises", "results", f"{exercise}.json")["networks"]
    ]
    return table(language, ("network", "parameters", "macs", "predict", "train"), rows)


def accuracies(language: str, exercise: str) -> str:
    """What the exercise's trainings reached."""
    rows = [
        (say(language, row["label"]), f"{row['num_parameters']:,}", *(_spread(language, row, kind) for kind in ("validation", "test")))
        for row in recorded("exercises", "results", f"{exercise}.json")["trainings"]
    ]
    return table(language, ("what", "parameters", "held out", "test"), rows)


def _spread(language: str, row: dict[str, Any], kind: str) -> str:
    n = len(row["runs"])
    return say(language, "spread" if n > 1 else "once", n=n, **row[f"{kind}_accuracy"])


def one_by_one(language: str) -> str:
    """A 1x1 convolution against a fully connected layer."""
    found = recorded("exercises", "results", "one_by_one.json")
    row = (
        "x".join(map(str, found["feature_maps"])),
        f"{found['pixels']:,}",
        f"{found['convolution_parameters']:,}; {found['linear_parameters']:,}",
        f"{found['largest_difference']:.1e}" if found["largest_difference"] else "0",
    )
    return table(language, ("feature maps" if language == "en" else "特征图", "places", "values", "difference"), [row])


def connected_heads(language: str) -> str:
    """Where the parameters are."""
    rows = [
        (say(language, row["network"]), f"{row['convolutions']:,}", f"{row['fully_connected']:,}", f"{row['share']:.1%}")
        for row in recorded("exercises", "results", "connected_heads.json")["networks"]
    ]
    return table(language, ("network", "convolutions", "connected", "share"), rows)


def dropout(language: str) -> str:
    """The two dropouts on the same tensor."""
    found = recorded("exercises", "results", "dropout.json")
    rows = [
        (
            f"`{row['layer']}({found['p']})`",
            f"{row['zeroed']:.1%}",
            f"{row['channels_wholly_zero']} / {found['tensor'][1]}",
            f"{row['value_of_the_rest']:g}",
            f"{row['mean_of_a_channel']:.2f}",
            f"{row['deviation_of_a_channel']:.2f}",
        )
        for row in found["layers"]
    ]
    return table(language, ("", "zeroed", "whole", "rest", "mean", "deviation"), rows)


OCCLUDED = (("fashion-mnist", "Fashion-MNIST, 28"), ("fashion-mnist-56", "Fashion-MNIST, 56"), ("cifar-10", "CIFAR-10, 32"))


def occlusion(language: str) -> str:
    """What covering a part of a picture does to its class."""
    rows, classifiers = [], []
    for name, shown in OCCLUDED:
        found = recorded("occlusion", "results", f"{name}.json")
        trained, maps = found["trained"], "x".join(map(str, found["map_size"]))
        stopped = say(language, "stopped", at=trained["stopped_at"]) if trained["stopped_at"] else ""
        facts = {"right": found["accuracy_on_these"], "epochs": trained["epochs"], "seed": trained["seed"], "maps": maps}
        classifiers.append(say(language, "classifier", shown=shown, network=found["network"], stopped=stopped, **facts))
        for cover in found["covers"]:
            kind = "mean colour" if cover["filling"] == "mean" else cover["filling"]
            rows.append(
                (
                    f"{shown}, {say(language, kind)}",
                    f"{cover['share']:.1%}",
                    f"{cover['mean_fall']:.3f}",
                    f"{cover['against_random']['mean_fall']:.3f}",
                    f"{cover['against_lowest']['mean_fall']:.3f}",
                    _more(language, cover["against_random"]),
                    _more(language, cover["against_exchanged"]),
                )
            )
    made = table(language, ("data", "area", "pointed", "random", "lowest", "more", "exchanged"), rows)
    return f"{made}\n\n{'; '.join(classifiers) if language == 'en' else '；'.join(classifiers)}{say(language, 'stop')}"


def _more(language: str, against: dict[str, Any]) -> str:
    """A mean difference with its interval; in bold where the interval is above zero."""
    low, high = against["interval"]
    mean = f"{against['mean_difference']:+.3f}"
    return f"{f'**{mean}**' if low > 0 else mean} ({low:+.3f} {say(language, 'to')} {high:+.3f})"


def occlusion_classes(language: str, data: str) -> str:
    """The same by class, for covers of the mean colour and a tenth of the picture."""
    covers = [cover for cover in recorded("occlusion", "results", f"{data}.json")["covers"] if cover["filling"] == "mean"]
    rows = [
        (
            name,
            str(row["num_pictures"]),
            f"{row['mean_fall']:.3f}",
            f"{row['against_random']['mean_fall']:.3f}",
            f"{row['against_lowest']['mean_fall']:.3f}",
            _more(language, row["against_random"]),
            _more(language, row["against_exchanged"]),
        )
        for name, row in covers[-1]["per_class"].items()
    ]
    return table(language, ("class", "pictures", "pointed", "random", "lowest", "more", "exchanged"), rows)


def streaming(language: str) -> str:
    """Time and memory of `nin predict` over very many pictures."""
    rows = [
        (
            f"{row['pictures']:,}",
            f"{row['processor_seconds']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['load_before']:.0f}",
            f"{row['peak_mib']:.0f} MiB",
        )
        for row in recorded("streaming", "results", "streaming.json")["rows"]
    ]
    return table(language, ("count", "processor", "seconds", "load", "peak"), rows, left=0)


def exported(language: str) -> str:
    """How an exported classifier answers, float and in 8 bits, and what it takes."""
    accuracy, parity, networks, speed = (
        recorded("export", "results", f"{part}.json") for part in ("accuracy", "parity", "networks", "speed")
    )
    rows = [
        ("test accuracy", f"{accuracy['evaluate_accuracy']:.2%}", f"{accuracy['float_accuracy']:.2%}", f"{accuracy['accuracy']:.2%}"),
        ("bytes", "", f"{accuracy['float_num_bytes']:,}", f"{accuracy['num_bytes']:,}"),
        (
            "largest difference of a probability",
            "",
            f"{parity['largest_probability']:.1e}",
            f"{accuracy['largest_difference']:.2g}",
        ),
    ]
    ways = ("Classifier.predict", "onnxruntime, float32", "onnxruntime, int8")
    for batch, found in speed["by_batch"].items():
        cells = (f"{found[way]['processor_milliseconds']:.2f}" for way in ways)
        rows.append((f"processor's milliseconds, {batch} at once", *cells))
    rows = [(say(language, name), *cells) for name, *cells in rows]
    machine, run = speed["machine"], accuracy["run"]
    pairs, largest = len(parity["by_size_and_batch"]), networks["largest_probability"]
    wanted = f"{machine['load_before']:.0f}"
    tests, ranges = f"{accuracy['test_pictures']:,}", accuracy["calibration_pictures"]
    versions = f"onnxruntime {machine['onnxruntime']}, torch {machine['torch']}"
    if language == "zh":
        conditions: tuple[str, ...] = (
            f"`{run['network']}`，在 Fashion-MNIST 上训练 {run['epochs']} 轮，种子 {run['seed']}；"
            f"{tests} 张测试图片，用 {ranges} 张训练图片确定取值范围。",
            f"浮点文件的差异取自 {pairs} 组尺寸与张数，1x2 到 1201x1603 像素；",
            f"权重为初始值的各个已命名网络，差异至多 {largest:.1e}。",
            f"{accuracy['date']}，{machine['processor']}，{machine['cores']} 个核，{versions}；",
            f"此前的平均负载（load average）为 {wanted}，所以给出处理器时间而不是钟表时间。",
        )
    else:
        conditions = (
            f"`{run['network']}`, {run['epochs']} epochs on Fashion-MNIST, seed {run['seed']}; "
            f"{tests} test pictures, {ranges} train pictures for the ranges.",
            f"The difference of the float file is over {pairs} pairs of size and number, 1x2 to 1201x1603 pixels;",
            f"for the named networks with weights at their start it is at most {largest:.1e}.",
            f"{accuracy['date']}, {machine['processor']}, {machine['cores']} cores,",
            f"{versions};",
            f"the load average before it was {wanted}, so the processor's time is given and not the clock's.",
        )
    heads = ("", say(language, "predict by torch"), *(say(language, f"file, {kind}") for kind in ("float32", "int8")))
    return "\n".join((table(language, heads, rows), "", *conditions, say(language, "predict by torch now")))


def served(language: str) -> str:
    """How fast the service answers beside `Classifier.predict`."""
    found = recorded("serve", "results", "speed.json")
    rows = [
        (
            _connections(language, connections),
            f"{median['per_second']:,.0f}",
            f"{median['predict_per_second']:,.0f}",
            f"{median['share_of_predict']:.0%} ({_range_of(rounds, 'share_of_predict', '.0%')})",
            f"{median['share_of_as_many']:.0%} ({_range_of(rounds, 'share_of_as_many', '.0%')})",
            f"{median['median_ms']:.1f}, {median['p99_ms']:.1f}",
            _range_of(rounds, "p99_over_median", ".1f"),
            f"{median['mean_batch']:.1f}",
            f"{median['service_cpu_ms']:.2f}, {median['wrk_cpu_ms']:.2f}, {median['predict_cpu_ms']:.2f}",
        )
        for connections, median in found["median_by_connections"].items()
        for rounds in [found["rounds_by_connections"][connections]]
    ]
    heads = (
        "connections",
        "pictures/s",
        "`predict`, pictures/s",
        "share (rounds)",
        "share of `predict` with as many at once",
        "median, p99 ms",
        "p99 over median",
        "pictures a batch",
        "processor ms: service, wrk, `predict`",
    )
    return table(language, [say(language, head) for head in heads], rows)


def served_networks(language: str) -> str:
    """How much of `Classifier.predict` the service gives for networks that take longer over a picture, one picture a request."""
    found = sorted((recorded("serve", "results", path.name) for path in (HERE / "serve" / "results").glob("speed*.json")), key=_macs)
    rows = [
        (
            f"`{each['network']}`, {each['image_size']}x{each['image_size']}",
            f"{each['num_macs'] / 1e6:.1f}",
            *(
                f"{each['median_by_connections'][way]['share_of_predict']:.0%} "
                f"({_range_of(each['rounds_by_connections'][way], 'share_of_predict', '.0%')})"
                for way in ("1", "8", "64")
            ),
            _range_of(each["rounds_by_connections"]["8"], "p99_over_median", ".1f"),
        )
        for each in found
    ]
    heads = ("network", "millions of multiply-adds", "1 connection", "8 connections", "64 connections", "p99 over median, 8 connections")
    return table(language, [say(language, head) for head in heads], rows)


def _macs(found: dict[str, Any]) -> int:
    count: int = found["num_macs"]
    return count


def _connections(language: str, recorded: str) -> str:
    """How many connections ask, and with how many pictures a form."""
    count, _, pictures = recorded.partition(", forms of ")
    return say(language, "{count}, forms of {pictures}", count=count, pictures=pictures) if pictures else count


def _range_of(rounds: Sequence[Any], key: str, form: str) -> str:
    values = [found[key] for found in rounds]
    return f"{min(values):{form}} - {max(values):{form}}"


def _spread_of(values: Sequence[float], form: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} - {max(values):{form}})"


def why_start(language: str, which: Sequence[str] = ("start", "start-narrow")) -> str:
    """What reaches the class maps before the first step."""
    rows = []
    for part in which:
        found = recorded("every_seed", "results", f"{part}.json")
        for name, start in found["starts"].items():
            deaths = [count for count, times in enumerate(start["dead_maps"]) for _ in range(times)]
            alive = [count for count, times in enumerate(start["maps_on_for_every_picture"]) for _ in range(times)]
            rows.append(
                (
                    say(language, f"{name} start"),
                    say(language, f"network {part}"),
                    f"{start['differs'][0]:.0%}",
                    f"{start['differs'][-1]:.2%}",
                    f"{start['gradient'][0]:.2g}",
                    _spread_of(deaths, ".0f"),
                    f"{10 * found['seeds'] - sum(deaths) - sum(alive)} / {10 * found['seeds']}",
                )
            )
    header = ("start", "network", "differs 1", "differs 12", "gradient 1", "dead first", "always")
    return table(language, header, rows, left=2)


def why_first(language: str) -> str:
    """The full network's first steps, seed by seed."""
    runs = recorded("every_seed", "results", "why-67.json")["changes"]["none"]
    marks = (0, 100, 200, runs[0]["steps"][-1])
    rows = []
    for run in runs:
        dead = dict(zip(run["steps"], run["dead"], strict=True))
        living = [number for number in range(10) if number not in run["dead"][0]]
        means = [sum(row["mean"][number] for number in living) / max(1, len(living)) for row in (run["rows"][0], run["rows"][-1])]
        rows.append(
            (
                str(run["seed"]),
                ", ".join(str(len(dead[step])) for step in marks),
                f"{means[0]:.2f}, {means[1]:.2f}",
                f"{run['loss'][-1]:.3f}",
                f"{run['tests'][-1]['test_accuracy']:.3f}",
            )
        )
    header = ("seed", say(language, "dead at", steps=", ".join(map(str, marks))), "living mean", "best loss", "test")
    return table(language, header, rows)


def why_lives(language: str) -> str:
    """How the ten epochs of the narrow network went, seed by seed."""
    runs = recorded("every_seed", "results", "why-narrow.json")["changes"]["none"]
    rows = []
    for run in runs:
        left = next((step for step, accuracy in zip(run["steps"], run["accuracy"], strict=True) if accuracy > 0.2), None)
        end = run["tests"][-1]
        ever = {number for dead in run["dead"] for number in dead}
        recalls = [recall for number, recall in enumerate(end["recalls"]) if number not in end["dead_maps"]]
        rows.append(
            (
                str(run["seed"]),
                str(len(run["dead"][0])),
                str(max(map(len, run["dead"]))),
                say(language, "never") if left is None else str(left),
                str(len(end["dead_maps"])),
                str(len(ever - set(end["dead_maps"]))),
                f"{end['test_accuracy']:.3f}",
                f"{min(recalls, default=0):.2f}",
            )
        )
    header = (
        "seed",
        say(language, "dead at", steps="0"),
        "most dead",
        "left chance",
        "dead end",
        "revived",
        say(language, "end", epochs=round(runs[0]["tests"][-1]["step"] / 469)),
        "weakest",
    )
    return table(language, header, rows)


def why_plateaus(language: str) -> str:
    """At every epoch's end of the narrow network: classes that are hardly recognised, by the state of their maps."""
    tests = [test for run in recorded("every_seed", "results", "why-narrow.json")["changes"]["none"] for test in run["tests"]]
    rows = []
    for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 0.74), (0.74, 0.84)):
        here = [test for test in tests if low <= test["test_accuracy"] < high]
        counts = {"dead": 0, "starved": 0, "living": 0}
        for test in here:
            middle = statistics.median(test["gradient_norm"])
            for number, recall in enumerate(test["recalls"]):
                if recall < 0.1:
                    starved = test["gradient_norm"][number] < 0.1 * middle
                    counts["dead" if number in test["dead_maps"] else "starved" if starved else "living"] += 1
        cells = (f"{count / max(1, len(here)):.1f}" for count in (sum(counts.values()), *counts.values()))
        rows.append((f"{low:g} {say(language, 'to')} {high:g}", str(len(here)), *cells))
    return table(language, ("test", "epoch ends", "lost", "lost dead", "lost starved", "lost alive"), rows)


def why_changes(language: str) -> str:
    """The same seeds with one thing changed, after two epochs; and the unchanged recipe over the same seeds."""
    changes = recorded("every_seed", "results", "why-narrow.json")["changes"]
    seeds = set.intersection(*({run["seed"] for run in runs} for runs in changes.values()))
    rows = []
    for name, runs in changes.items():
        kept = [run for run in runs if run["seed"] in seeds]
        ends = [next(test for test in run["tests"] if test["step"] == 938) for run in kept]
        lefts = [next((s for s, accuracy in zip(run["steps"], run["accuracy"], strict=True) if accuracy > 0.2), None) for run in kept]
        rows.append(
            (
                say(language, f"change {name}"),
                ", ".join(say(language, "never") if left is None else str(left) for left in lefts),
                ", ".join(str(len(end["dead_maps"])) for end in ends),
                _spread_of([end["test_accuracy"] for end in ends], ".3f"),
            )
        )
    header = ("change", "left chance", "dead end", "middle")
    return table(language, header, rows)


def why_cure(language: str) -> str:
    """`steady` with each ingredient taken away."""
    found = recorded("every_seed", "results", "cure-narrow.json")
    rows = []
    for name, variant in _in_order(found["variants"]):
        accuracies = [run["accuracy"] for run in variant["runs"] if run["accuracy"] is not None]
        dead = [run["dead_class_maps"] for run in variant["runs"] if run["dead_class_maps"] is not None]
        rows.append(
            (
                say(language, f"cure {name}"),
                f"{variant['failures']} / {variant['seeds']}",
                ", ".join(map(str, dead)),
                _spread_of(accuracies, ".3f"),
            )
        )
    return table(language, ("variant", "failures", "dead end", "held out median"), rows)


def why_ten(language: str) -> str:
    """All ten epochs of the narrow network: the notebooks' recipe, `steady`, and `steady` without something."""
    found = recorded("every_seed", "results", "steady-narrow.json")
    theirs = recorded("every_seed", "results", "why-narrow.json")
    ends = [run["tests"][-1] for run in theirs["changes"]["none"]]
    trained = {"the notebooks'": [(end["test_accuracy"], len(end["dead_maps"])) for end in ends]}
    dtypes = {"the notebooks'": theirs["device"]["dtype"]} | {name: variant["dtype"] for name, variant in found["variants"].items()}
    for name, variant in _in_order(found["variants"]):
        trained[name] = [(run["accuracy"], run["dead_class_maps"]) for run in variant["runs"]]
    rows = []
    for name, runs in trained.items():
        accuracies = [accuracy for accuracy, _ in runs]
        rows.append(
            (
                say(language, f"cure {name}"),
                dtypes[name],
                str(len(runs)),
                str(sum(accuracy < 0.2 for accuracy in accuracies)),
                str(sum(accuracy < 0.8 for accuracy in accuracies)),
                ", ".join(str(dead) for _, dead in runs),
                _spread_of(accuracies, ".3f"),
            )
        )
    columns = ("variant", "computed in", "seed count", "at chance", "below .8", "dead end", "test median")
    return table(language, columns, rows, left=2)


def why_published(language: str) -> str:
    """`steady` on the published networks, and what was taken out of it."""
    rows = []
    for name in ("cure-224", "cure-mnist", "cure-mnist-longer", "cure-cifar10", "cure-cifar10-longer"):
        found = recorded("every_seed", "results", f"{name}.json")
        steps = math.ceil(found["pictures"] / 128) * found["num_epochs"]
        for variant, trained in _in_order(found["variants"]):
            dead = max(run["dead_class_maps"] for run in trained["runs"])
            rows.append(
                (
                    f"`{found['model']}`, {found['image_size']}x{found['image_size']}",
                    say(language, f"cure {variant}"),
                    trained["dtype"],
                    f"{found['pictures']:,}",
                    f"{steps:,}",
                    f"{trained['failures']} / {trained['seeds']}",
                    str(dead),
                    _spread_of([run["accuracy"] for run in trained["runs"]], ".3f"),
                )
            )
    columns = ("network", "variant", "computed in", "pictures", "steps", "failures", "most dead over test", "test median")
    return table(language, columns, rows, left=3)


def _in_order(variants: dict[str, Any]) -> list[tuple[str, Any]]:
    """Variants of `cure.py` with what was recorded of them, in the order of the words above."""
    return sorted(variants.items(), key=lambda item: list(WORDS).index(f"cure {item[0]}"))


def why_recover(language: str) -> str:
    """The notebooks' recipe warned of, and recovered."""
    found = recorded("every_seed", "results", "recover.json")
    rows = []
    for warned, saved in zip(found["warn"], found["recover"], strict=False):
        cells = []
        for run in (warned, saved):
            given_up = run["test_accuracy"] is None
            cells.append(say(language, "gave up") if given_up else f"{run['test_accuracy']:.3f} ({run['dead_class_maps']})")
        rows.append((str(warned["seed"]), *cells, str(saved.get("recoveries", "-"))))
    return table(language, ("seed", "warned", "recovered", "recoveries"), rows)


def why_monitor(language: str) -> str:
    """What watching costs."""
    rows = [
        (
            f"`{row['network']}`, {row['image_size']}x{row['image_size']} [{row['batch_size']}]",
            f"{row['watched_step_milliseconds']:.1f} ms",
            f"{row['monitor_milliseconds_a_step']:.3f} ms",
            f"{row['share_of_a_step']:.3%}",
        )
        for row in recorded("every_seed", "results", "monitor_cost.json")["rows"]
    ]
    return table(language, ("network", "watched step", "own", "own share"), rows)


FUZZED = {
    "idx": "IDX",
    "idx-gz": "IDX behind gzip",
    "cifar-binary": "CIFAR-10, binary",
    "cifar-100-binary": "CIFAR-100, binary",
    "cifar-pickle": "CIFAR-10, pickle",
    "cifar-100-pickle": "CIFAR-100, pickle",
    "png": "PNG",
    "jpeg": "JPEG",
    "gif": "GIF",
    "bmp": "BMP",
    "webp": "WebP",
    "tiff": "TIFF",
    "ppm": "PPM",
    "npz": ".npz",
    "archive": "a downloaded .tar.gz",
    "classifier-config": "a classifier's config.json",
    "safetensors": "a classifier's model.safetensors",
    "run-config": "a run's config.json, resumed",
    "run-files": "a run's metrics.jsonl and result.json",
    "checkpoint": "a checkpoint's JSON file",
    "checkpoint-tensors": "a checkpoint's tensors",
    "onnx": "the .onnx file of `nin predict`",
    "http": "HTTP requests, one picture or none",
    "http-forms": "HTTP requests, multipart",
    "flags": "command lines of every command",
}
"""What `faults/fuzz.py` feeds, and what it is to a reader."""


def fuzzing(language: str) -> str:
    """What became of broken and hostile input, reader by reader."""
    rows, machines = [], set()
    for name, what in FUZZED.items():
        if not HERE.joinpath("faults", "results", f"fuzz-{name}.json").is_file():
            rows.append((what, "not recorded yet", "", "", "", ""))
            continue
        found = recorded("faults", "results", f"fuzz-{name}.json")
        refused = sum(count for outcome, count in found["outcomes"].items() if "Error" in outcome and not outcome.startswith("finding"))
        wrong = sum(found["findings"].values())
        cells = (f"{found['inputs']:,}", f"{found['inputs'] - refused - wrong:,}", f"{refused:,}", f"{wrong:,}")
        rows.append((what, *cells, f"{found['slowest']['cpu_seconds']:.2f} s, {found['peak_megabytes_added']:.0f} MiB"))
        machine = found["machine"]
        machines.add(f"{machine['processor']}, Python {machine['python']}, Pillow {machine['pillow']}")
    header = ("what", "inputs", "answered or refused as meant", "named errors", "anything else", "slowest input; memory added")
    return f"{table(language, header, rows)}\n\n{'; '.join(sorted(machines))}."


# What kill.py kills, as its table calls it.
KILLED = {
    "sweep": "a training, at {calls_tried} of its {calls} calls that change files",
    "train": "trainings, until each came to its end",
    "command": "the same by `python -m torchnin`, all 7,000 pictures of the sample",
    "seeds": "studies of three seeds (`--seeds 3`)",
    "save": "`Classifier.save` over another classifier",
    "export": "`nin export` over an older file",
    "download": "downloads from a slow server (`nin datasets --download`)",
    "two": "a training, while others are pointed at its folder",
}


def killed(language: str) -> str:
    """How often what was killed, and what came out."""
    found = recorded("faults", "results", "kill.json")
    rows = [
        (
            what.format(**part),
            f"{part['kills']:,}",
            f"{part['inside_writes']:,}",
            f"{part['compared']} folders, all the same" if not part["wrong"] and "compared" in part else _came_out(part),
        )
        for name, what in KILLED.items()
        if (part := found["parts"].get(name)) is not None
    ]
    rows.append(("**together**", f"**{found['kills']:,}**", f"**{found['inside_writes']:,}**", ""))
    made = table(language, ("killed", "kills", "of them inside writes", "in the end"), rows)
    parts, machine = found["parts"], found["machine"]
    lines = [made.replace("---:|---:|---:|", "---:|---:|---|"), ""]
    if two := parts.get("two"):
        lines.append(
            f"Of two processes pointed at one run folder the second was refused, {two['refused']} times: `{two['sentence']}` (exit 2)."
        )
    for name, found_set in parts.get("download", {}).get("sets", {}).items():
        sent = found_set["sent_over_size"]
        lines.append(
            f"`{name}` ({found_set['bytes']:,} bytes), killed {', '.join(map(str, found_set['kills_in_one_download']))} times: "
            f"the server sent {min(sent):.2f} to {max(sent):.2f} times its size, and its checksums were right."
        )
    dates = sorted({part["date"] for part in parts.values()})
    versions = f"Python {machine['python']}, torch {machine['torch']}"
    lines.append(f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {machine['processor']}, {versions}.")
    return "\n".join(lines)


def _came_out(part: dict[str, Any]) -> str:
    return f"**wrong: {len(part['wrong'])}**" if part["wrong"] else "the old one or the new one, always whole"


def kill_places(language: str) -> str:
    """Where the kills fell."""
    counted: dict[str, dict[str, int]] = {}
    for part in recorded("faults", "results", "kill.json")["parts"].values():
        for place, number in part["where"].items():
            how, _, name = place.partition(": ")
            row = counted.setdefault(name or how, {})
            row[how if name else ""] = row.get(how if name else "", 0) + number
    calls = ("open", "write", "fsync", "rename", "unlink", "mkdir", "rmdir")
    rows = []
    for name, row in sorted(counted.items(), key=lambda item: -sum(item[1].values())):
        inside = [f"{row[f'in {call}']}" if f"in {call}" in row else "" for call in calls]
        between = sum(number for how, number in row.items() if not how.startswith("in "))
        rows.append((name, *inside, f"{between}" if between else "", f"{sum(row.values()):,}"))
    return table(language, ("file", *(f"in {call}" for call in calls), "elsewhere", "kills"), rows)


def faults(language: str) -> str:
    """Fault, expected, seen."""
    found = recorded("faults", "results", "faults.json")
    rows = []
    for row in (row for rows in found["rows"].values() for row in rows):
        seen = f"{row['right']:,} of {row['tried']:,} as expected" if row["tried"] else "not tried"
        seen += "".join(f"; {note}" for note in row["notes"])
        if row["example"]:
            example = row["example"].replace("|", "/")
            seen += f"<br>`{example if len(example) <= 240 else example[:240] + '...'}`"
        rows.append((row["fault"], row["expected"], seen))
    machine = found["machine"]
    conditions = f"{found['date']}, {machine['processor']}, {machine['system']}, Python {machine['python']}, torch {machine['torch']}."
    return "\n".join((table(language, ("fault", "expected", "seen"), rows, left=3), "", conditions))


Maker = Callable[[str], str]
WHY: dict[str, Maker] = {
    "start": why_start,
    "first": why_first,
    "lives": why_lives,
    "plateaus": why_plateaus,
    "changes": why_changes,
    "cure": why_cure,
    "ten": why_ten,
    "published": why_published,
    "authors": partial(why_start, which=("start-mnist", "start-cifar10")),
    "recover": why_recover,
    "monitor": why_monitor,
}
EXERCISES: dict[str, Maker] = {
    **{f"{name} counts": partial(counts, exercise=name) for name in ("mlp_layers", "mlp_kernel_size", "head", "resources", "one_step")},
    **{f"{name} accuracy": partial(accuracies, exercise=name) for name in ("tuning", "mlp_layers", "mlp_kernel_size", "head", "one_step")},
    "one_by_one": one_by_one,
    "connected_heads": connected_heads,
    "dropout": dropout,
}
LOOKING: dict[str, Maker] = {
    "occlusion": occlusion,
    **{f"occlusion {name}": partial(occlusion_classes, data=name) for name in ("fashion-mnist-56", "cifar-10")},
}
SPEED: dict[str, Maker] = {**prediction_tables.MAKERS, "streaming": streaming}
PAGES: dict[Path, tuple[str, dict[str, Maker]]] = {
    HERE.parent / "SECURITY.md": ("en", {"fuzzing": fuzzing}),
    DOCS / "exercises.md": ("en", EXERCISES),
    DOCS / "exercises.zh-CN.md": ("zh", EXERCISES),
    DOCS / "looking-inside.md": ("en", LOOKING),
    DOCS / "looking-inside.zh-CN.md": ("zh", LOOKING),
    DOCS / "why-nin-fails.md": ("en", WHY),
    DOCS / "why-nin-fails.zh-CN.md": ("zh", WHY),
    DOCS / "onnx.md": ("en", {"export": exported}),
    DOCS / "onnx.zh-CN.md": ("zh", {"export": exported}),
    DOCS / "serving.md": ("en", {"serve": served, "serve networks": served_networks}),
    DOCS / "serving.zh-CN.md": ("zh", {"serve": served, "serve networks": served_networks}),
    DOCS / "speed.md": ("en", SPEED),
    DOCS / "speed.zh-CN.md": ("zh", SPEED),
    DOCS / "faults.md": ("en", {"kill": killed, "kill places": kill_places, "faults": faults}),
}


if __name__ == "__main__":
    pages.write_or_check(__doc__, "python benchmarks/docs_tables.py", PAGES)
