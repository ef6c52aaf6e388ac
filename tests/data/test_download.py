import gzip
import hashlib
import io
import os
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from torchnin.data import DataError, load_dataset
from torchnin.data import download as download_module
from torchnin.data import locate as locate_module
from torchnin.data.catalog import CIFAR_10, FASHION_MNIST, SAMPLE, DataFile, Download, Layout, NamedDataset
from torchnin.data.download import fetch
from torchnin.data.integrity import Digest
from torchnin.files import cache_folder


@dataclass
class Mirror:
    """A local server, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """How many bytes each next answer gives before the connection ends; none left: all of them."""
    status: int = 200
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                mirror.asked.append((self.path, wanted))
                content = mirror.files.get(self.path)
                if content is None or mirror.status != 200:
                    self.send_error(404 if content is None else mirror.status)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and mirror.ranges else 0
                if start and start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = start + mirror.cuts.pop(0) if mirror.cuts else len(content)
                self.wfile.write(content[start:end])

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    found = Mirror()
    server = ThreadingHTTPServer(("127.0.0.1", 0), found.handler())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("TORCHNIN_DATA_MIRROR", found.url)
    monkeypatch.setattr(locate_module, "SYSTEM_FOLDER", tmp_path / "no-system-folder")
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


# The sample's files are small and real: here they are downloaded under another name.
SMALL = replace(
    SAMPLE,
    name="small",
    downloads=tuple(
        Download(
            file_name=f"{file.name}.gz",
            urls=("http://127.0.0.1:9/",),
            size=(locate_module.SAMPLE_FOLDER / f"{file.name}.gz").stat().st_size,
        )
        for file in SAMPLE.layouts[0].files
    ),
)


@pytest.fixture
def served(mirror: Mirror) -> Mirror:
    for part in SMALL.downloads:
        mirror.files[f"/small/{part.file_name}"] = (locate_module.SAMPLE_FOLDER / part.file_name).read_bytes()
    return mirror


def complete(folder: Path) -> bool:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == {
        part.file_name: hashlib.sha256((locate_module.SAMPLE_FOLDER / part.file_name).read_bytes()).hexdigest() for part in SMALL.downloads
    }


def test_a_set_is_fetched_whole(served: Mirror) -> None:
    told: list[tuple[str, int, int | None]] = []
    folder = fetch(SMALL, lambda *step: told.append(step))
    assert folder == cache_folder() / "data" / "small"
    assert complete(folder)
    size = SMALL.downloads[0].size
    assert ("downloading train-images-idx3-ubyte.gz", size, size) in told
    assert not folder.with_name("small.part").exists()
    before = len(served.asked)
    assert fetch(SMALL) == folder
    assert len(served.asked) == before


def test_a_cut_connection_is_resumed_within_one_call(served: Mirror) -> None:
    served.cuts = [100_000, 200_000]
    assert complete(fetch(SMALL))
    assert [wanted for _, wanted in served.asked[:3]] == [None, "bytes=100000-", "bytes=300000-"]


def test_an_interrupted_download_is_resumed_by_the_next_call(served: Mirror) -> None:
    class Stop(BaseException):
        pass

    def stop(stage: str, done: int, total: int | None) -> None:
        if done > 600_000:
            raise Stop

    with pytest.raises(Stop):
        fetch(SMALL, stop)
    folder = cache_folder() / "data" / "small"
    assert not folder.exists()
    kept = (folder.with_name("small.part") / "train-images-idx3-ubyte.gz.part").stat().st_size
    assert kept > 0
    assert complete(fetch(SMALL))
    assert served.asked[1][1] == f"bytes={kept}-"


def test_a_server_without_ranges_sends_it_all_again(served: Mirror) -> None:
    served.ranges = False
    served.cuts = [100_000]
    assert complete(fetch(SMALL))


def test_a_part_of_something_else_is_fetched_anew(served: Mirror) -> None:
    staging = cache_folder() / "data" / "small.part"
    staging.mkdir(parents=True)
    (staging / "train-images-idx3-ubyte.gz.part").write_bytes(b"something else" * 1000)
    # This one is longer than the file: the server answers 416.
    (staging / "train-labels-idx1-ubyte.gz.part").write_bytes(b"x" * 10_000)
    assert complete(fetch(SMALL))


def test_files_that_came_before_a_stop_are_kept(served: Mirror) -> None:
    served.cuts = []
    last = f"/small/{SMALL.downloads[3].file_name}"
    content = served.files.pop(last)
    with pytest.raises(DataError, match="the server answered 404"):
        fetch(SMALL)
    assert not (cache_folder() / "data" / "small").exists()
    served.files[last] = content
    served.asked.clear()
    assert complete(fetch(SMALL))
    assert [path for path, _ in served.asked] == [last]


@pytest.mark.parametrize(
    "wrong",
    [b"not the data", b"", gzip.compress(b"other data"), gzip.compress(bytes(30_000_000))],
    ids=["no gzip", "nothing", "other data", "a bomb"],
)
def test_wrong_bytes_are_never_put_in_place(served: Mirror, wrong: bytes) -> None:
    served.files["/small/train-labels-idx1-ubyte.gz"] = wrong
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz.*expected"):
        fetch(SMALL)
    folder = cache_folder() / "data" / "small"
    assert not folder.exists()
    assert not (folder.with_name("small.part") / "train-labels-idx1-ubyte.gz").exists()


def test_an_endless_answer_stops(served: Mirror) -> None:
    served.files["/small/train-labels-idx1-ubyte.gz"] = bytes(4_000_000)
    with pytest.raises(DataError, match=r"expected about 3,079 bytes, found 4,000,000 announced"):
        fetch(SMALL)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_what_the_server_answered_is_said(served: Mirror, status: int) -> None:
    served.status = status
    with pytest.raises(DataError, match=f"the server answered {status}"):
        fetch(SMALL)
    assert len(served.asked) == (3 if status >= 500 else 1)


def test_the_next_home_is_tried(served: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHNIN_DATA_MIRROR")
    parts = tuple(
        replace(part, urls=(f"{served.url}/nowhere", closed_address(), f"{served.url}/small/{part.file_name}")) for part in SMALL.downloads
    )
    assert complete(fetch(replace(SMALL, downloads=parts)))


def closed_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_no_network_gives_the_sample_and_the_reason(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHNIN_DATA_MIRROR", closed_address())
    data = load_dataset("fashion-mnist")
    assert data.name == "fashion-mnist-sample"
    assert len(data.notes) == 1
    assert not list((cache_folder() / "data").glob("*.part"))
    assert "Connection refused" in data.notes[0]
    assert "apt-get install dataset-fashion-mnist" in data.notes[0]
    with pytest.raises(DataError, match=r"mnist: .*the download failed .*Connection refused.*--data-dir"):
        load_dataset("mnist")


def test_a_mirror_must_be_an_address_of_the_web(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHNIN_DATA_MIRROR", "file:///etc")
    with pytest.raises(ValueError, match="TORCHNIN_DATA_MIRROR: expected an address"):
        fetch(SMALL)


def test_a_cache_that_cannot_be_written(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCHNIN_HOME", str(tmp_path / "file"))
    data = load_dataset("fashion-mnist")
    assert data.name == "fashion-mnist-sample"
    assert "could not be written (Not a directory)" in data.notes[0]


def test_two_at_once_fetch_it_once(served: Mirror) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(SMALL))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert complete(found[0])
    assert len(served.asked) == 4


def test_a_folder_that_is_there_already_gets_the_missing_files(served: Mirror) -> None:
    folder = cache_folder() / "data" / "small"
    folder.mkdir(parents=True)
    (folder / "README").write_text("mine")
    fetch(SMALL)
    assert len(list(folder.iterdir())) == 5


def test_fashion_mnist_is_downloaded_and_loaded(mirror: Mirror, fashion_mnist: Path) -> None:
    for part in FASHION_MNIST.downloads:
        mirror.files[f"/fashion-mnist/{part.file_name}"] = (fashion_mnist / part.file_name).read_bytes()
    mirror.cuts = [5_000_000]
    data = load_dataset("fashion-mnist")
    assert (data.name, len(data.train), data.notes) == ("fashion-mnist", 60_000, ())
    assert data.source == str(cache_folder() / "data" / "fashion-mnist")
    asked = len(mirror.asked)
    load_dataset("fashion-mnist")
    assert len(mirror.asked) == asked


def tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def archive_of(content: dict[str, bytes]) -> NamedDataset:
    files = tuple(
        DataFile(name=name, size=len(data), digest=Digest(algorithm="sha256", value=hashlib.sha256(data).hexdigest()))
        for name, data in content.items()
    )
    layout = Layout(kind="cifar-pickle", train=files[:-1], test=files[-1:], folders=("",))
    return replace(
        CIFAR_10,
        name="packed",
        layouts=(layout,),
        downloads=(Download(file_name="packed.tar.gz", urls=("http://127.0.0.1:9/",), size=100_000),),
    )


CONTENT = {"data_batch_1": b"one" * 100, "test_batch": b"two" * 200}
GOOD = [(named(f"cifar/{name}"), data) for name, data in CONTENT.items()]


def test_an_archive_is_unpacked_and_removed(mirror: Mirror) -> None:
    extra = [(named("cifar"), b""), (named("cifar/readme.html"), b"hello")]
    extra[0][0].type = tarfile.DIRTYPE
    mirror.files["/packed/packed.tar.gz"] = tar(extra + GOOD)
    folder = fetch(archive_of(CONTENT))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_no_member_escapes_its_folder(mirror: Mirror, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    evil = [
        (named("../../../../outside"), b"escaped"),
        (named(str(outside)), b"escaped"),
        (named("link", tarfile.SYMTYPE, str(tmp_path)), b""),
        (named("link/outside"), b"escaped"),
        (named("data_batch_1", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (named("test_batch", tarfile.FIFOTYPE), b""),
    ]
    mirror.files["/packed/packed.tar.gz"] = tar(evil + GOOD)
    folder = fetch(archive_of(CONTENT))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert not outside.exists()
    assert not any(path.is_symlink() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (GOOD[:1], "found none of test_batch"),
        ([GOOD[0], (named("test_batch"), b"2wo" * 200)], "expected sha256 .*found sha256"),
        ([GOOD[0], (named("test_batch"), b"two")], "expected 600 bytes, found 3"),
    ],
)
def test_archives_without_the_right_files(mirror: Mirror, members: list[tuple[tarfile.TarInfo, bytes]], said: str) -> None:
    mirror.files["/packed/packed.tar.gz"] = tar(members)
    with pytest.raises(DataError, match=said):
        fetch(archive_of(CONTENT))
    assert not (cache_folder() / "data" / "packed").exists()


def test_bombs_and_broken_archives(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "MAX_FILE_BYTES", 1_000_000)
    header = named("pax")
    header.size = 10**12
    bomb = gzip.compress(header.tobuf() + bytes(30_000_000), 1)
    long_name = named("x", tarfile.XHDTYPE)
    long_name.size = 2**33
    for content, said in [
        (bomb, "far more bytes in it"),
        (gzip.compress(long_name.tobuf() + bytes(30_000_000), 1), "far more bytes in it|broken"),
        (tar(GOOD)[:-60], "broken or truncated"),
        (gzip.compress(b"no tar" * 1000), "broken or truncated"),
        (b"no gzip", "broken or truncated"),
    ]:
        mirror.files["/packed/packed.tar.gz"] = content
        with pytest.raises(DataError, match=said):
            fetch(archive_of(CONTENT))
    assert not (cache_folder() / "data" / "packed").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere, and Windows has no such modes")
def test_a_cache_without_permission(mirror: Mirror) -> None:
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        fetch(SMALL)
