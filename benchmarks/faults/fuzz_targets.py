"""What `fuzz.py` feeds to the readers and loaders: for each its whole files, how to change them, and the call."""

import contextlib
import copy
import gzip
import hashlib
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import atheris
import numpy as np

RNG = np.random.default_rng(7)
INTERESTING: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 1.5, -0.0, 255, 65_536, 2**31, 2**63, 2**64, 10**30, -(10**18), 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "0", "gap", "é\u0000", "x" * 300, [], {}, [[]], [0], [1] * 50, {"a": {}}, [None], ["x"]),
)


class Target:
    """One reader: `seeds` are whole files for it, `run` gives a file to it and says what came of it."""

    seeds: list[bytes]
    words: ClassVar[tuple[bytes, ...]] = (b"\0\0\0\0",)
    max_len: ClassVar[int] = 4096
    errors: tuple[type[BaseException], ...]
    mutate: Callable[[bytes, int, int], bytes] | None = None

    def __init__(self, folder: Path) -> None:
        from torchnin.data.errors import DataError

        self.folder, self.errors = folder, (DataError,)
        self.file = folder / "input"
        self.prepare()

    def prepare(self) -> None:
        """Import what is to be tested, and make the seeds."""
        raise NotImplementedError

    def run(self, data: bytes) -> str:
        """Give one input to the reader; the kind of result."""
        raise NotImplementedError


def idx(*shape: int) -> bytes:
    """An IDX file of unsigned bytes."""
    header = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    return header + RNG.integers(0, 256, int(np.prod(shape)), dtype=np.uint8).tobytes()


class Idx(Target):
    words = (b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\0\x1c", b"\xff\xff\xff\xff", b"\x1f\x8b\x08")

    def prepare(self) -> None:
        from torchnin.data.readers.idx import read_idx

        self.read = read_idx
        self.seeds = [idx(3, 4, 5), idx(7), idx(0, 28, 28), idx(2, 28, 28)]

    def run(self, data: bytes) -> str:
        self.file.write_bytes(data)
        array = self.read(self.file, 1 if data[3:4] == b"\1" else 3)
        return f"array of {array.ndim} axes"


class IdxGz(Idx):
    """The same behind gzip; a bomb among the seeds."""

    def prepare(self) -> None:
        super().prepare()
        bomb = bytes((0, 0, 8, 1)) + struct.pack(">I", 1000) + b"\0" * 200_000_000
        self.seeds = [gzip.compress(seed) for seed in self.seeds] + [gzip.compress(bomb, 9)[:4096]]
        self.seeds += [gzip.compress(idx(7)) + b"\0" * 9, gzip.compress(idx(7)[:5]) + gzip.compress(idx(7)[5:])]

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change what is packed, or the packing."""
        if seed % 4:
            with contextlib.suppress(zlib.error):
                inner = zlib.decompressobj(31).decompress(data, 4096)
                return gzip.compress(atheris.Mutate(inner, max(len(inner) + 64, 64)), 1, mtime=0)
        return atheris.Mutate(data, max_size)


class CifarPickle(Target):
    """Every instruction of the pickle language is among the words, and calls that would do harm among the seeds."""

    labels = b"labels"
    words = (b"\x80\x02", b"\x80\x04", b"cos\nsystem\n", b"c__builtin__\neval\n", b"R.", b"\x93", b"\x81", b"i", b"o", b"b.", b"Q", b"P0\n")
    max_len = 8192

    def prepare(self) -> None:
        from torchnin.data.readers.cifar import parse_batch, parse_class_names

        self.parse_batch, self.parse_class_names = parse_batch, parse_class_names
        pixels = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)
        batch = {b"batch_label": b"training batch 1 of 5", self.labels: [3, 9], b"data": pixels, b"filenames": [b"a.png", b"b.png"]}
        if self.labels == b"fine_labels":
            batch[b"coarse_labels"] = [1, 2]
        meta = {self.labels.removesuffix(b"s") + b"_names": [b"cat", b"dog"], b"num_vis": 3072}
        self.seeds = [pickle.dumps(document, protocol) for document in (batch, meta) for protocol in (2, 3, 4)]
        self.seeds += [b"cos\nsystem\n(S'touch fuzzed'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."]

    def run(self, data: bytes) -> str:
        if b"data" in data:
            pictures, _ = self.parse_batch(data, "input")
            return f"{len(pictures)} pictures"
        return f"{len(self.parse_class_names(data, 'input'))} names"


class Cifar100Pickle(CifarPickle):
    labels = b"fine_labels"


class CifarBinary(Target):
    label_bytes = 1
    max_len = 9300

    def prepare(self) -> None:
        from torchnin.data.readers.cifar import parse_class_lines, parse_records

        self.parse, self.parse_lines = parse_records, parse_class_lines
        record = self.label_bytes + 3072
        self.seeds = [bytes(record), bytes(2 * record), bytes(3 * record), b"airplane\ncat\n\n", "鞋\nb\r\n".encode()]

    def run(self, data: bytes) -> str:
        if len(data) < 200:
            return f"names: {bool(self.parse_lines(data, 'input'))}"
        return f"{len(self.parse(data, self.label_bytes, 'input')[0])} pictures"


class Cifar100Binary(CifarBinary):
    label_bytes = 2


def picture(form: str, mode: str, size: tuple[int, int] = (9, 7), **options: Any) -> bytes:
    """A picture file."""
    from PIL import Image

    noise = Image.frombytes("RGBA", size, RNG.integers(0, 256, size[0] * size[1] * 4, dtype=np.uint8).tobytes())
    file = io.BytesIO()
    image = (
        Image.new(mode, size, 777)
        if mode in ("I;16", "I", "F")
        else noise.convert("L").convert(mode)
        if mode == "LA"
        else noise.convert(mode)
    )
    image.save(file, form, **options)
    return file.getvalue()


class Pictures(Target):
    """Files of one format, in all the modes that Pillow writes."""

    form = "PNG"
    modes: ClassVar[tuple[str, ...]] = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    extra: ClassVar[tuple[dict[str, Any], ...]] = ()

    def prepare(self) -> None:
        from PIL import Image

        from torchnin.data.pictures import decode_picture, measure_quietly

        self.decode, self.measure = decode_picture, measure_quietly
        orientation = Image.Exif()
        orientation[0x0112] = 6
        self.seeds = [picture(self.form, mode) for mode in self.modes]
        self.seeds += [picture(self.form, self.modes[0], **options) for options in self.extra]
        if self.form in ("PNG", "JPEG", "WEBP", "TIFF"):
            self.seeds.append(picture(self.form, self.modes[-2], exif=orientation.tobytes()))

    def run(self, data: bytes) -> str:
        """Of every fourth file what its header alone says, as it is read of a folder of pictures, has to agree with its pixels."""
        channels, measured = 3 if len(data) % 2 else 1, None
        if zlib.crc32(data) % 4 == 0:
            self.file.write_bytes(data)
            with contextlib.suppress(*self.errors):
                measured = self.measure(self.file)
        pixels = self.decode(data, channels)
        assert pixels.dtype == np.uint8
        assert measured is None or pixels.shape == (channels, *measured[:2]), (pixels.shape, measured)
        return f"{pixels.shape[0]} channels"


class Png(Pictures):
    """Chunks get their checksums anew, so that changes reach what lies behind these."""

    words = (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT", b"IEND", b"gAMA")
    extra = ({"optimize": True},)

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change anything; then, three times in four, put lengths aside and checksums right."""
        changed = atheris.Mutate(data, max_size)
        if seed % 4 == 0:
            return changed
        out, position = bytearray(changed[:8]), 8
        while position + 12 <= len(changed) and len(out) < max_size:
            length = min(int.from_bytes(changed[position : position + 4], "big"), len(changed) - position - 12)
            body = changed[position + 4 : position + 8 + length]
            out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
            position += 12 + length
        return bytes(out)


class Jpeg(Pictures):
    form, modes = "JPEG", ("L", "RGB", "CMYK")
    extra = ({"progressive": True}, {"quality": 5}, {"comment": b"c"})
    words = (b"\xff\xd8\xff", b"\xff\xe1", b"Exif\0\0", b"II*\0", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xd9", b"MPF\0", b"\xff\xed")


class Gif(Pictures):
    form, modes = "GIF", ("1", "L", "P")
    extra = ({"interlace": 1}, {"comment": b"c"})
    words = (b"GIF89a", b"\x21\xf9\x04", b"\x21\xff\x0b", b"NETSCAPE2.0", b"\x2c", b"\x3b")


class Bmp(Pictures):
    form, modes = "BMP", ("1", "L", "P", "RGB", "RGBA")
    words = (b"BM", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0", b"\x01\0\x20\0")


class Webp(Pictures):
    form, modes = "WEBP", ("RGB", "RGBA")
    extra = ({"lossless": True}, {"quality": 1})
    words = (b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"EXIF", b"ICCP")


class Tiff(Pictures):
    form, modes = "TIFF", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")
    extra = ({"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}, {"compression": "group4"})
    words = (b"II*\0", b"MM\0*", b"II+\0", b"\x00\x01\x03\0", b"\x11\x01\x04\0", b"\x69\x87\x04\0", b"\xff\xff\xff\xff")


class Ppm(Pictures):
    form, modes = "PPM", ("1", "L", "RGB", "I;16")
    words = (b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b"Pf\n", b"P7\n", b"PyP", b"65535\n", b"255\n", b"# ")


class Npz(Target):
    """Members are changed and packed again, with true and false sizes, or the zip file itself is changed."""

    words = (b"\x93NUMPY\x01\0", b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, 4), }", b"'|O'", b"'<U9'", b"(-1,)", b"9" * 30)
    max_len = 8192

    def prepare(self) -> None:
        from torchnin.data.readers.arrays import read_npz

        self.read = read_npz
        pixels, labels = RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8), np.array([0, 1, 1])
        keras = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
        medical = {"train_images": np.stack([pixels] * 3, -1), "train_labels": labels[:, None], "class_names": np.array(["a", "b"])}
        bomb = {"x": np.zeros((3, 4, 4), np.uint8), "y": labels, "unrelated": np.zeros(30_000_000, np.uint8)}
        self.seeds = []
        for arrays in (keras, medical, bomb, {"x": np.asfortranarray(pixels), "y": np.array([object()] * 3, dtype=object)}):
            for save in (np.savez, np.savez_compressed):
                file = io.BytesIO()
                save(file, **arrays)
                if file.tell() <= 60_000:
                    self.seeds.append(file.getvalue())

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change one member, or the archive."""
        rng = random.Random(seed)
        if rng.random() < 0.7:
            with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {item.filename: archive.open(item).read(4096) for item in archive.infolist()[:8]}
                name = rng.choice(sorted(members))
                members[name] = atheris.Mutate(members[name], 4096)
                file = io.BytesIO()
                with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as packed:
                    for key, content in members.items():
                        packed.writestr(zipfile.ZipInfo(key if rng.random() < 0.95 else rng.choice(("x.npy", "../../x.npy"))), content)
                return file.getvalue()
        return atheris.Mutate(data, max_size)

    def run(self, data: bytes) -> str:
        self.file.write_bytes(data)
        return f"{len(self.read(self.file))} splits"


class Archive(Target):
    """A downloaded .tar.gz: whatever its members are called, only the wanted files are written, inside the folder."""

    max_len = 16_384

    def prepare(self) -> None:
        import dataclasses

        from torchnin.data import catalog, download

        layout = catalog.CIFAR_10.layouts[0]
        small = tuple(dataclasses.replace(file, digest=None, size=None) for file in layout.files[:2])
        self.dataset = dataclasses.replace(catalog.CIFAR_10, layouts=(dataclasses.replace(layout, train=small[:1], test=small[1:]),))
        self.unpack, self.staging = download._unpack, self.folder / "deep" / "staging"
        self.staging.mkdir(parents=True)
        names = [file.name for file in small]
        self.seeds = [
            self.archive(names),
            self.archive([f"../../{name}" for name in names]),
            self.archive([f"/tmp/{name}" for name in names]),
        ]
        self.seeds += [self.archive(names, tarfile.SYMTYPE), self.archive(names, tarfile.LNKTYPE), self.archive(["a", *names])]
        type(self).words = tuple(name.encode() for name in names)
        self.around = set(self.folder.iterdir()) | {self.file}

    @staticmethod
    def archive(names: list[str], kind: bytes = tarfile.REGTYPE) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, "/etc/passwd", 0 if kind != tarfile.REGTYPE else 40
                archive.addfile(member, io.BytesIO(b"x" * 40) if member.size else None)
        return file.getvalue()

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change what is packed, headers' checksums put right, or the packing."""
        if seed % 5:
            with contextlib.suppress(zlib.error):
                inner = bytearray(atheris.Mutate(zlib.decompressobj(31).decompress(data, 20_000), 20_480))
                for start in range(0, len(inner) - 511, 512):
                    if inner[start + 257 : start + 262] == b"ustar":
                        total = sum(inner[start : start + 148]) + 8 * 32 + sum(inner[start + 156 : start + 512])
                        inner[start + 148 : start + 156] = b"%06o\0 " % total
                return gzip.compress(bytes(inner), 1, mtime=0)
        return atheris.Mutate(data, max_size)

    def run(self, data: bytes) -> str:
        self.file.write_bytes(data)
        try:
            self.unpack(self.dataset, self.file, self.staging)
            return "unpacked"
        finally:
            written = {path.name for path in self.staging.iterdir()}
            for name in written:
                (self.staging / name).unlink()
            wanted = {file.name for file in self.dataset.layouts[0].files}
            assert {name.removesuffix(".tmp") for name in written} <= wanted, written
            kept = (".bin", ".txt", ".json", ".dict")
            new = {path for path in self.folder.iterdir() if path.suffix not in kept} - self.around - {self.folder / "corpus"}
            assert not new, new


def change_json(data: bytes, max_size: int, seed: int) -> bytes:
    """Put another value somewhere into a JSON document, drop, double or rename something; or change its bytes."""
    rng = random.Random(seed)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return atheris.Mutate(data, max_size)
    if rng.random() < 0.15:
        return atheris.Mutate(data, max_size)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        parents: list[tuple[Any, Any]] = []
        waiting = [document]
        while waiting and len(parents) < 2000:
            node = waiting.pop()
            pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, value in pairs:
                parents.append((node, key))
                waiting.append(value)
        if not parents:
            document = copy.deepcopy(rng.choice(INTERESTING))
            continue
        node, key = rng.choice(parents)
        what = rng.random()
        if what < 0.6:
            node[key] = copy.deepcopy(rng.choice(INTERESTING)) if rng.random() < 0.7 else rng.choice(parents)[0]
            with contextlib.suppress(ValueError, RecursionError):
                json.dumps(document)  # a document that holds itself is none
                continue
            node[key] = None
        elif what < 0.75:
            del node[key]
        elif what < 0.9 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = node[key] * rng.choice((-1, 0, 0.5, 2, 10, 10**9)) + rng.choice((0, 1, -1))
        elif isinstance(node, dict):
            node[str(key) + rng.choice(("", "x", "_"))] = node[key]
        else:
            node.extend(node[:20])
    text = json.dumps(document).encode()
    return text if len(text) <= max_size else data


def trained(folder: Path) -> Path:
    """A run of one epoch of a network of a few hundred weights, on 40 pictures."""
    import torchnin

    sample = torchnin.load_dataset("fashion-mnist-sample")
    few = folder / "few.npz"
    np.savez(few, x_train=sample.train.images[:40], y_train=np.arange(40) % 10, x_test=sample.test.images[:20], y_test=np.arange(20) % 10)
    network = torchnin.NiNConfig(
        blocks=(torchnin.BlockConfig(channels=(2, 2), kernel_size=5, stride=2, padding=2),),
        class_block=torchnin.ClassBlockConfig(),
        in_channels=1,
        num_classes=10,
        image_size=28,
        mlp_layers=1,
        batch_norm=True,
    )
    return torchnin.train(network, str(few), torchnin.Recipe(num_epochs=1, batch_size=20), out=folder / "run", quiet=True).path


class ClassifierConfig(Target):
    """`config.json` of a saved classifier whose weights are whole."""

    max_len = 16_384
    mutate = staticmethod(change_json)

    def prepare(self) -> None:
        import torchnin

        self.load, self.place = torchnin.load, trained(self.folder) / "classifier"
        self.seeds = [(self.place / "config.json").read_bytes()]

    def run(self, data: bytes) -> str:
        (self.place / "config.json").write_bytes(data)
        return f"{len(self.load(self.place).class_names)} classes"


class Safetensors(Target):
    """The weights of a classifier whose `config.json` names their checksum, whatever they are."""

    max_len = 8192
    words = (b'"dtype":"F32"', b'"shape":[', b'"data_offsets":[0,', b"__metadata__", b"F64", b"BF16", b"I64", b"\0\0\0\0\0\0\0\0")

    def prepare(self) -> None:
        import torchnin

        self.load, self.place, self.digest = torchnin.load, trained(self.folder) / "classifier", hashlib.sha256
        self.config = json.loads((self.place / "config.json").read_text())
        self.seeds = [(self.place / "model.safetensors").read_bytes()]

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change the header, a JSON document behind its length, or the whole."""
        size = int.from_bytes(data[:8], "little")
        if seed % 4 and size <= len(data) - 8:
            header = change_json(data[8 : 8 + size], size + 400, seed)
            return struct.pack("<Q", len(header)) + header + data[8 + size :]
        return atheris.Mutate(data, max_size)

    def run(self, data: bytes) -> str:
        (self.place / "model.safetensors").write_bytes(data)
        self.config["weights_sha256"] = self.digest(data).hexdigest()
        (self.place / "config.json").write_text(json.dumps(self.config))
        self.load(self.place)
        return "classifier"


class RunConfig(Target):
    """`config.json` of a run that is to be resumed, up to its checkpoint, which there is none of."""

    max_len = 16_384
    mutate = staticmethod(change_json)

    def prepare(self) -> None:
        import torchnin

        self.resume, self.place = torchnin.resume, trained(self.folder)
        self.errors = (*self.errors, ValueError, torchnin.TrainingError, FileNotFoundError)
        (self.place / "result.json").unlink()
        for path in (self.place / "checkpoint").glob("step-*.json"):
            path.write_bytes(b"")
        # As earlier versions wrote it: with a checksum and a copy every change would end there.
        (self.place / "checkpoint" / "config.json").unlink()
        config = json.loads((self.place / "config.json").read_text())
        self.seeds = [json.dumps({key: value for key, value in config.items() if key != "checksum"}).encode()]

    def run(self, data: bytes) -> str:
        (self.place / "config.json").write_bytes(data)
        self.resume(self.place, quiet=True)
        return "resumed"


class RunFiles(Target):
    """`result.json` and `metrics.jsonl`, as they are shown and drawn."""

    mutate = staticmethod(change_json)

    def prepare(self) -> None:
        import torchnin

        self.shown = torchnin.Run(trained(self.folder))
        self.seeds = [(self.shown.path / name).read_bytes() for name in ("result.json", "metrics.jsonl")]

    def run(self, data: bytes) -> str:
        (self.shown.path / "metrics.jsonl").write_bytes(data)
        (self.shown.path / "result.json").write_bytes(data)
        return f"{bool(self.shown.result)}, {min(len(self.shown.metrics), 3)} rows"


class CheckpointFile(Target):
    """The JSON file of a checkpoint, with the checksums that belong to it: read, taken up, and gone on with to the end of the training."""

    max_len = 8192
    mutate = staticmethod(change_json)

    def prepare(self) -> None:
        import torchnin
        from torchnin.training import checkpoint, loop

        place = trained(self.folder)
        self.errors, self.seal, self.place = (torchnin.TrainingError,), checkpoint._sealed, place / "checkpoint"
        # The run is made to look unfinished, and resumed up to its first step.
        (place / "result.json").unlink()
        held: list[Any] = []

        def hold(training: Any) -> None:
            held.append(training)
            raise torchnin.TrainingError("held")

        self.go, loop.Training.go = loop.Training.go, hold
        with contextlib.suppress(torchnin.TrainingError):
            torchnin.resume(place, quiet=True)
        self.training = held[0]
        whole, _ = checkpoint.read_checkpoint(self.place)
        self.tensors = checkpoint._packed(whole.tensors)
        self.document = {"sha256": self.digest(self.tensors), "progress": whole.progress}
        self.name = max(path.stem for path in self.place.glob("step-*.json"))
        for path in self.place.iterdir():
            path.unlink()
        self.write(self.tensors, self.document)
        self.seeds = self.whole()

    @staticmethod
    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def whole(self) -> list[bytes]:
        return [json.dumps(self.document).encode()]

    def write(self, tensors: bytes, document: Any) -> None:
        (self.place / f"{self.name}.safetensors").write_bytes(tensors)
        packed = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self.place / f"{self.name}.json").write_bytes(self.seal(packed))

    def taken_up(self) -> str:
        self.training.restore()
        # At the end there is nothing left to learn, so it is learned once more from the beginning of the last epoch.
        self.training.step, self.training.rows = 0, self.training.rows[:-1]
        self.go(self.training)
        return "taken up"

    def run(self, data: bytes) -> str:
        self.write(self.tensors, data)
        return self.taken_up()


class CheckpointTensors(CheckpointFile):
    """The tensors of a checkpoint, whose JSON file names their checksum, whatever they are."""

    max_len = 32_768
    words = Safetensors.words
    mutate = staticmethod(Safetensors.mutate)

    def whole(self) -> list[bytes]:
        return [self.tensors]

    def run(self, data: bytes) -> str:
        self.write(data, {**self.document, "sha256": self.digest(data)})
        return self.taken_up()


READERS: dict[str, type[Target]] = {
    "idx": Idx,
    "idx-gz": IdxGz,
    "cifar-pickle": CifarPickle,
    "cifar-binary": CifarBinary,
    "cifar-100-pickle": Cifar100Pickle,
    "cifar-100-binary": Cifar100Binary,
    "png": Png,
    "jpeg": Jpeg,
    "gif": Gif,
    "bmp": Bmp,
    "webp": Webp,
    "tiff": Tiff,
    "ppm": Ppm,
    "npz": Npz,
    "archive": Archive,
    "classifier-config": ClassifierConfig,
    "safetensors": Safetensors,
    "run-config": RunConfig,
    "run-files": RunFiles,
    "checkpoint": CheckpointFile,
    "checkpoint-tensors": CheckpointTensors,
}
