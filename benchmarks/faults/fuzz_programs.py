"""What `fuzz.py` feeds to programs: requests to the service, exported files to `nin predict`, command lines to `nin`."""

import asyncio
import contextlib
import copy
import io
import json
import os
import random
import re
from typing import Any
from urllib.parse import unquote

import atheris
from fuzz_targets import INTERESTING, Target, picture, trained

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BOUNDARY = b"7d1"


def form(*files: bytes) -> bytes:
    """A multipart body."""
    parts = (
        b'--%s\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n%s\r\n'
        % (_BOUNDARY, file)
        for file in files
    )
    return b"".join(parts) + b"--%s--\r\n" % _BOUNDARY


def request(line: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    """A request as it is on the wire, without the version."""
    return b"\r\n".join((line, b"Host: 127.0.0.1:8000", *headers, b"", body))


class Service(Target):
    """Requests to the application, as the server in front of it hands them over; the queue and its thread are those of `nin serve`.

    A header X-Pieces says in how many pieces the body arrives. The service must answer each with one start and one end, never with 500.
    """

    max_len = 4096
    words = (
        *(b"POST ", b"GET ", b"OPTIONS ", b"HEAD ", b"/v1/predict", b"/v1/explain", b"/v1/model", b"/metrics", b"?layers=false"),
        *(b"Content-Type: ", b"multipart/form-data", b"; boundary=", b"image/png", b"Content-Length: ", b"Transfer-Encoding: chunked"),
        *(b"Host: ", b"Origin: http://", b"Authorization: Bearer ", b"X-Pieces: 3", b"filename*=UTF-8''", b"\r\n\r\n", b"--" + _BOUNDARY),
        *(b"Content-Encoding: gzip", b"Expect: 100-continue", b"Range: bytes=0-", b"If-None-Match: *", b"%00", b"%2e%2e/", b"/../"),
    )

    def prepare(self) -> None:
        import torchnin
        from torchnin.web import create_app

        self.errors = ()
        self.loop = asyncio.new_event_loop()
        self.app = create_app(torchnin.load(trained(self.folder)))
        self.alive = self.app.router.lifespan_context(self.app)
        self.loop.run_until_complete(self.alive.__aenter__())
        self.seeds = self.requests()

    def requests(self) -> list[bytes]:
        """Whole requests: bodies that are one picture, and everything that has no body."""
        post = b"POST /v1/predict"
        small = picture("PNG", "L", (3, 2))
        kinds = (("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp"), ("TIFF", "tiff"))
        return [
            *(request(post, picture(form, "RGB", (3, 2)), b"Content-Type: image/%s" % kind.encode()) for form, kind in kinds),
            request(post, small),
            request(post, small, b"X-Pieces: 4", b"Content-Length: 9"),
            request(b"POST /v1/explain?layers=false", small, b"Content-Type: image/png"),
            request(b"OPTIONS /v1/predict", b"", b"Origin: http://127.0.0.1:8000"),
            *(request(b"GET /" + path) for path in (b"", b"healthz", b"metrics", b"v1/model", b"openapi.json", b"%2e%2e/pages.py")),
        ]

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change the head, the body, or where one ends and the other begins."""
        head, end, body = data.partition(b"\r\n\r\n")
        if seed % 8 == 0:
            return atheris.Mutate(data, max_size)
        if seed % 8 < 4:
            return atheris.Mutate(head, max(len(head) + 64, 64)) + end + body
        return head + end + atheris.Mutate(body, max(max_size - len(head) - 4, 64))

    def run(self, data: bytes) -> str:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, _, target = first.partition(b" ")
        # A server refuses what is no token or no ASCII before the application sees it.
        method = method if _NAME.fullmatch(method) else b"POST"
        target = re.sub(rb"[^\x21-\x7e]", b"", target)
        path, _, query = target.partition(b"?")
        fields = [line.partition(b":") for line in lines]
        headers = [(name.lower(), re.sub(rb"[\r\n\0]", b"", value.strip())) for name, _, value in fields if _NAME.fullmatch(name)]
        pieces = (
            max((int(value) % 64 for name, value in headers if name == b"x-pieces" and value.isdigit() and len(value) < 4), default=1) or 1
        )
        step = max(1, -(-len(body) // pieces))
        waiting = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
            "method": method.decode(),
            "path": unquote(path.decode()) or "/",
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8000),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not waiting:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self.loop.run_until_complete(asyncio.wait_for(self.app(scope, receive, send), 60))
        assert [message["type"] for message in sent].count("http.response.start") == 1, sent
        assert sent[0]["type"] == "http.response.start"
        assert not sent[-1].get("more_body"), "an answer without an end"
        status = sent[0]["status"]
        answer = b"".join(message.get("body", b"") for message in sent)
        assert status < 500, answer
        if status >= 400 and method != b"HEAD":
            assert list(json.loads(answer)) == ["error"], answer
        return f"status {status}"


class Forms(Service):
    """The same for multipart bodies."""

    def requests(self) -> list[bytes]:
        """Forms of one picture and of several, whole and not."""
        kind = b"Content-Type: multipart/form-data; boundary=" + _BOUNDARY
        small, broken = picture("PNG", "L", (3, 2)), picture("PNG", "RGB", (3, 2))[:40]
        line = b"POST /v1/predict"
        return [
            request(line, form(small), kind),
            request(line, form(small, broken), kind, b"X-Pieces: 5"),
            request(line, form(*[b"x"] * 70), kind),
            request(line, form(small).replace(b'; filename="a.png"', b""), kind),
            request(line, form(small)[:-20], kind),
            request(line, form(small), b'Content-Type: multipart/form-data; boundary="%s"' % (b"x" * 300)),
            request(b"POST /v1/explain?layers=false", form(small), kind),
        ]


class Exported(Target):
    """The .onnx file of `nin predict`: opened, and asked about one small picture. Changed as the document that it is, or byte by byte."""

    max_len = 16_384
    words = (b"torchnin onnx 1", b"Resize", b"If", b"Loop", b"ConstantOfShape", b"external_data", b"location", b"../../etc/passwd")

    def prepare(self) -> None:
        import numpy as np

        import torchnin

        self.errors = (*self.errors, ValueError)
        self.kind, self.pixels = torchnin.ExportedClassifier, np.arange(48, dtype=np.uint8).reshape(6, 8)
        torchnin.load(trained(self.folder)).export_onnx(self.folder / "tiny.onnx")
        self.seeds = [(self.folder / "tiny.onnx").read_bytes()]

    @staticmethod
    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """Change a node, an attribute, a tensor or a line of the metadata."""
        import onnx

        rng = random.Random(seed)
        if rng.random() < 0.25:
            return atheris.Mutate(data, max_size)
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except Exception:
            return atheris.Mutate(data, max_size)
        for _ in range(rng.choice((1, 1, 2, 3))):
            with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
                change_model(model, rng)
        return model.SerializeToString()

    def run(self, data: bytes) -> str:
        self.file.write_bytes(data)
        answer = self.kind(self.file, threads=1).predict(self.pixels)
        assert next(iter(answer.probabilities)) == answer.label
        return "prediction"


def change_model(model: Any, rng: random.Random) -> None:
    """One change of an ONNX model."""
    numbers = (0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))
    graph = model.graph
    what = rng.randrange(9)
    if what == 0 and graph.node:
        node = rng.choice(graph.node)
        node.op_type = rng.choice(
            ("Loop", "If", "Scan", "ConstantOfShape", "Expand", "Tile", "Conv", "Resize", "Range", "Exp", "Reshape", "")
        )
    elif what == 1 and graph.node:
        node = rng.choice(graph.node)
        names = [name for other in graph.node for name in other.output] + [tensor.name for tensor in graph.initializer]
        place = rng.randrange(len(node.input))
        node.input[place] = rng.choice(names)
    elif what == 2:
        attribute = rng.choice([attribute for node in graph.node for attribute in node.attribute])
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(numbers)
        elif rng.random() < 0.5:
            attribute.i = rng.choice(numbers)
        else:
            attribute.s = rng.choice((b"", b"cubic", b"SAME_UPPER", b"x" * 300))
    elif what == 3:
        tensor = rng.choice(graph.initializer)
        if tensor.dims and rng.random() < 0.4:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(numbers)
        elif rng.random() < 0.3:
            tensor.data_type = rng.randrange(0, 24)
        elif rng.random() < 0.2:
            tensor.data_location = 1
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", rng.choice(("../../../../etc/passwd", "/etc/passwd", "input", "/dev/zero"))
        else:
            raw = bytearray(tensor.raw_data)
            start = rng.randrange(max(1, len(raw)))
            raw[start : start + 8] = rng.choice(numbers).to_bytes(8, "little", signed=True)
            tensor.raw_data = bytes(raw)
    elif what == 4:
        entry = rng.choice(model.metadata_props)
        with contextlib.suppress(ValueError):
            document = json.loads(entry.value)
            if isinstance(document, dict) and document:
                document[rng.choice(sorted(document))] = copy.deepcopy(rng.choice(INTERESTING))
                entry.value = json.dumps(document)
                return
        entry.value = rng.choice((json.dumps(rng.choice(INTERESTING)), "torchnin onnx 2", "[", "x"))
    elif what == 5:
        info = rng.choice([*graph.input, *graph.output])
        if rng.random() < 0.5:
            info.type.tensor_type.elem_type = rng.randrange(0, 24)
        else:
            rng.choice(info.type.tensor_type.shape.dim).dim_value = rng.choice(numbers)
    elif what == 6:
        del graph.node[rng.randrange(len(graph.node))]
    elif what == 7:
        graph.node.insert(rng.randrange(len(graph.node)), rng.choice(graph.node))
    else:
        model.opset_import[0].version = rng.choice((0, 1, 7, 17, 18, 22, 10**6))


COMMANDS = {
    "models": ["--json"],
    "datasets": ["--json", "--data-dir", "--download"],
    "doctor": ["--json", "--device", "--dtype"],
    "predict": ["--json", "--csv", "--top", "--device", "no-classifier", "no.png"],
    "evaluate": ["--json", "--plot", "--csv", "--tta", "--device", "no-classifier", "no-data"],
    "explain": ["--json", "--out", "--layers", "--pixel", "--device", "no-classifier", "no.png"],
    "summary": ["--json", "--input", "--mlp-layers", "--mlp-kernel-size", "--head", "--dropout", "--pool", "--batch-norm", "nin_small"],
    "export": ["--json", "--out", "--int8", "--accept-accuracy-loss", "--data", "--data-dir", "--pictures", "no-classifier", "x.onnx"],
    "compare": ["--json", "--input", "--batch-size", "--seconds", "--head", "--device", "no-network", "no-network:mlp_layers=2"],
    "serve": ["--port", "--token", "--no-auth", "--allow-host", "--allow-origin", "--device", "no-classifier"],
    "train": [
        *("--model", "--recipe", "--num-epochs", "--batch-size", "--lr", "--weight-decay", "--label-smoothing", "--ema-decay"),
        *("--clip-norm", "--thinning", "--class-weights", "--flip", "--shift", "--erase", "--image-size", "--validation", "--seed"),
        *("--seeds", "--out", "--data-dir", "--skip-broken", "--resume", "--overwrite", "--on-collapse", "--device", "--dtype", "--json"),
    ],
}
VALUES = [
    *(
        "0",
        "1",
        "-1",
        "3",
        "1e9",
        "1e400",
        "nan",
        "inf",
        "0.5",
        "9" * 40,
        "true",
        "false",
        "none",
        "None",
        "",
        " ",
        "é",
        "\u0000",
        "--",
        "-",
    ),
    *("auto", "cpu", "cuda", "mps", "float32", "bfloat16", "fast", "steady", "d2l", "nin_small", "nin_d2l", "fc", "gap", "flip", "1x28x28"),
    *(
        "1x0x0",
        "3x99999999x1",
        "x",
        "1,2",
        "maps.png",
        "maps.txt",
        "/dev/null",
        "/proc/self/x",
        "a/../b",
        "~",
        "$HOME",
        "%s",
        "{0}",
        "[bold]",
    ),
]


class Flags(Target):
    """Whole command lines, made of each command's own flags, of values that fit or do not, and of any text."""

    max_len = 48
    most = ("predict", "evaluate", "explain", "summary", "train", "export", "compare", "models", "datasets", "serve")

    def prepare(self) -> None:
        import tyro

        import torchnin
        from torchnin.commands import main
        from torchnin.data import DataError, load

        def no_data(*_: object, **__: object) -> None:
            raise DataError("no data while flags are tried")

        # Parsed and checked, but never trained: a call that is right would take minutes.
        torchnin.load_dataset = load.load_dataset = no_data
        # What a command accepts is worked out once and not for every line, which takes nine tenths of the time otherwise.
        specification = tyro._parsers.ParserSpecification
        work_out, known = specification.from_callable_or_type, {}

        def worked_out(f: Any, *args: Any, **options: Any) -> Any:
            if options.get("intern_prefix") or options.get("parent_classes"):
                return work_out(f, *args, **options)
            if f not in known:
                known[f] = work_out(f, *args, **options)
            return known[f]

        specification.from_callable_or_type = staticmethod(worked_out)
        # So is a network's table: that of the nine named ones takes a third of a second.
        summarize, tables = torchnin.summarize, {}

        def summarized(network: Any, shape: Any) -> Any:
            key = (network.config, tuple(shape))
            if key not in tables:
                tables[key] = summarize(network, shape)
            return tables[key]

        torchnin.summarize = summarized
        self.main, self.errors = main.main, ()
        os.chdir(self.folder)
        self.seeds = [bytes([index, *range(index, index + 8)]) for index in range(len(self.most))]

    def run(self, data: bytes) -> str:
        command = self.most[(data[0] if data else 0) % len(self.most)]
        words, flags, rest = [command], COMMANDS[command], data[1:]
        while rest and len(words) < 14:
            kind, rest = rest[0], rest[1:]
            if kind >= 0xF0:  # text as it is
                words.append(rest[: kind - 0xF0].decode("utf-8", "surrogateescape"))
                rest = rest[kind - 0xF0 :]
            else:
                words.append(flags[(kind >> 1) % len(flags)] if kind & 1 else VALUES[(kind >> 1) % len(VALUES)])
        refused = {"--download", "--resume", "nin_small", "nin_d2l"} if command in ("datasets", "train", "compare") else set()
        words = [word for word in words if word not in refused and not word.startswith(("--tyro", "--host"))]
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.main(words)
            except SystemExit as done:
                code = done.code or 0
        assert code in (0, 1, 2), code
        assert "Traceback" not in err.getvalue()
        assert "should not happen" not in err.getvalue(), (words, err.getvalue())
        assert code == 0 or err.getvalue().strip(), "a failure without a word"
        return f"exit {code}"


PROGRAMS: dict[str, type[Target]] = {"http": Service, "http-forms": Forms, "onnx": Exported, "flags": Flags}
