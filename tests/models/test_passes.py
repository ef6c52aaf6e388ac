"""Normalisation, pooling and ReLU in one pass give what torch's layers give one after the other; and are compiled without a complaint."""

import copy
import importlib.util
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from torchnin import create_model
from torchnin.models import native, passes, shortcuts
from torchnin.models.dropout import Dropout

ROOT = Path(__file__).resolve().parents[2]
# Of the norm: what rounding once to bfloat16 leaves, and what rounding in float32 does.
NEAR = {torch.bfloat16: 3e-3, torch.float32: 2e-6}

needs_compiled = pytest.mark.skipif(native.compiled() is None, reason="the passes are not compiled here, or not for this processor")


@pytest.fixture(params=native.kinds())
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every compiled file that this processor can run, and not only the best."""
    if native.load(request.param) is None:
        pytest.skip(f"there is no {native.file_for(request.param).name}")
    monkeypatch.setattr(native, "compiled", lambda: request.param)
    return request.param


def block(channels: int, *, norm: bool = True, pool: bool = False, ceil: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)] if norm else []
    if norm:
        nn.init.normal_(layers[0].weight)
        nn.init.normal_(layers[0].bias)
    return [*layers, *([nn.MaxPool2d(3, 2, ceil_mode=ceil)] if pool else []), nn.ReLU(inplace=True)]


def drawn(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Pictures that are far from zero, as normalisation meets them."""
    return (torch.randn(tuple(shape)) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def distance(found: Tensor, exact: Tensor) -> float:
    """Of the norm."""
    return float((found.detach().double() - exact.detach().double()).norm() / exact.detach().double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((4, 32, 28, 28), {}),
        ((3, 24, 7, 9), {}),
        ((5, 10, 4, 3), {}),
        ((2, 1, 5, 5), {}),
        ((300, 16, 1, 1), {}),
        ((4, 32, 28, 28), {"pool": True}),
        ((3, 20, 9, 12), {"pool": True}),
        ((3, 20, 9, 12), {"pool": True, "ceil": False}),
        ((2, 3, 3, 150), {"pool": True}),
        ((2, 48, 6, 8), {"pool": True, "ceil": False}),
        ((4, 40, 13, 14), {"norm": False, "pool": True}),
        ((3, 5, 54, 54), {"norm": False, "pool": True, "ceil": False}),
    ],
)
def test_as_torch_in_double_precision(kind: str, shape: tuple[int, ...], layers: dict[str, bool], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours = block(shape[1], **layers)
    exact = [copy.deepcopy(layer).double() for layer in ours]
    shown = drawn(shape, dtype)
    other = shown.detach().double().requires_grad_()

    taken = passes.take(ours, shown)

    assert taken is not None
    number, found = taken
    assert number == len(ours)
    expected = other
    for layer in exact:
        expected = layer(expected)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert distance(found, expected) < NEAR[dtype]
    slope = torch.randn(found.shape).to(dtype)
    found.backward(slope)
    expected.backward(slope.double())
    assert shown.grad is not None
    assert other.grad is not None
    assert shown.grad.dtype == dtype
    # Which of two equal values is the largest is torch's to say; in bfloat16 equal ones are frequent where nothing is normalised.
    tied = dtype == torch.bfloat16 and not layers.get("norm", True)
    assert distance(shown.grad.sum((2, 3)) if tied else shown.grad, other.grad.sum((2, 3)) if tied else other.grad) < 2 * NEAR[dtype]
    for layer, right in zip(ours, exact, strict=True):
        for value, wanted in zip(layer.parameters(), right.parameters(), strict=True):
            assert value.grad is not None
            assert wanted.grad is not None
            assert distance(value.grad, wanted.grad) < 1e-4
        for value, wanted in zip(layer.buffers(), right.buffers(), strict=True):
            torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_back_through_a_relu(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    output = torch.randn(3, 21, 9, 5).relu().to(dtype).contiguous(memory_format=torch.channels_last)
    slope = torch.randn(output.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    gradient, of_bias = passes.relu_gradient(output, slope)
    expected = slope * (output > 0)
    assert torch.equal(gradient, expected)
    torch.testing.assert_close(of_bias, expected.float().sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("p", "channels"), [(0.5, 24), (0.25, 21), (0.75, 48)])
def test_dropout_behind_pooling(kind: str, p: float, channels: int, dtype: torch.dtype) -> None:
    """Values and slopes that fall, and how those grow that do not, are those of the layers one by one."""
    torch.manual_seed(0)
    shown, own = drawn((3, channels, 9, 8), dtype), [*block(channels, norm=False, pool=True), Dropout(p)]
    with torch.no_grad():
        shown.sub_(3)
    torch.manual_seed(1)
    taken = passes.take(own, shown)
    assert taken is not None
    number, output = taken
    assert number == 3
    torch.manual_seed(1)
    exact = nn.Sequential(*own)(shown)
    assert torch.equal(output, exact)
    assert p - 0.1 < float((output == 0).double().mean()) < 1

    slope = torch.randn(output.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    (found,), (wanted,) = (torch.autograd.grad(value, shown, slope) for value in (output, exact))
    assert distance(found, wanted) < 2 * NEAR[dtype]


def test_dropout_that_no_byte_decides_follows_by_itself() -> None:
    shown, layers = drawn((3, 16, 9, 8), torch.float32), block(16, norm=False, pool=True)
    for dropout in (Dropout(0.3), Dropout(0.0), nn.Dropout(0.5), Dropout(0.5).eval()):
        taken = passes.take([*layers, dropout], shown)
        assert taken is None or taken[0] == 2


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_compiled
def test_any_number_of_threads(threads: None) -> None:
    torch.manual_seed(0)
    layers = block(24, pool=True)
    shown = drawn((5, 24, 11, 7), torch.float32)
    slope = torch.randn(5, 24, 5, 3)
    results = []
    for number in (1, 2, 3, 2, 60):
        torch.set_num_threads(number)
        taken = passes.take(layers, shown)
        assert taken is not None
        results.append((taken[1], *torch.autograd.grad(taken[1], (shown, layers[0].weight), slope)))
    for value, again in zip(results[1], results[3], strict=True):
        assert torch.equal(value, again), "as many threads, the same bits"
    for found in results:
        for value, first in zip(found, results[0], strict=True):
            assert distance(value, first) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("pool", [False, True])
def test_what_is_no_number_stays_none(kind: str, pool: bool, sign: int, dtype: torch.dtype) -> None:
    shown = drawn((2, 16, 9, 9), dtype).detach()
    shown[1, 3, 4, 4] = math.copysign(math.nan, sign)
    shown[0, 5, 2, 2] = math.inf
    taken = passes.take(block(16, pool=pool), shown.requires_grad_())
    assert taken is not None
    for channel in (3, 5):
        assert taken[1][:, channel].isnan().any()
    assert taken[1][:, 4].isfinite().all()


@pytest.mark.parametrize("sign", [1, -1])
def test_no_number_is_the_largest_of_its_window(kind: str, sign: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        shown = drawn((2, 16, 9, 9), dtype).detach()
        shown[1, 3, 4, 4] = math.copysign(math.nan, sign)
        taken = passes.take(block(16, norm=False, pool=True), shown.requires_grad_())
        assert taken is not None
        assert torch.equal(taken[1].isnan().nonzero(), torch.tensor([[1, 3, y, x] for y in (1, 2) for x in (1, 2)]))


@needs_compiled
def test_what_is_no_number_stays_none_where_it_is_dropped() -> None:
    shown = drawn((2, 16, 9, 9), torch.float32).detach().fill_(math.nan)
    taken = passes.take([*block(16, norm=False, pool=True), Dropout(0.5)], shown.requires_grad_())
    assert taken is not None
    assert taken[0] == 3
    assert taken[1].isnan().all()


@needs_compiled
def test_a_gradient_of_the_gradient() -> None:
    torch.manual_seed(0)
    for layers in (block(8), block(8, pool=True), block(8, norm=False, pool=True), [*block(8, norm=False, pool=True), Dropout(0.5)]):
        shown = drawn((3, 8, 7, 7), torch.float32)
        second = []
        for short in (True, False):
            torch.manual_seed(1)
            if short:
                taken = passes.take(layers, shown)
                assert taken is not None
                output = taken[1]
            else:
                output = nn.Sequential(*layers)(shown)
            (gradient,) = torch.autograd.grad(output.square().sum(), shown, create_graph=True)
            second.append(torch.autograd.grad(gradient.square().sum(), shown)[0])
        torch.testing.assert_close(second[0], second[1], rtol=1e-4, atol=1e-4)


@needs_compiled
def test_others_are_left_to_torch() -> None:
    shown = drawn((2, 16, 9, 9), torch.float32)
    norm, relu = block(16)
    pool = nn.MaxPool2d(3, 2)
    assert passes.take([norm, relu], shown) is not None
    for layers, pictures in (
        ([relu], shown),
        ([norm], shown),
        ([norm, pool], shown),
        ([norm, nn.Tanh()], shown),
        ([nn.BatchNorm2d(16).eval(), relu], shown),
        ([nn.BatchNorm2d(16, affine=False), relu], shown),
        ([nn.BatchNorm2d(16, momentum=None), relu], shown),
        ([nn.BatchNorm2d(16).double(), relu], shown.double()),
        ([nn.BatchNorm2d(8), relu], shown),
        ([nn.MaxPool2d(2), relu], shown),
        ([nn.MaxPool2d(3, 2, padding=1), relu], shown),
        ([pool, relu], drawn((2, 16, 2, 9), torch.float32)),
        ([norm, relu], shown.contiguous()),
        ([norm, relu], drawn((1, 16, 1, 1), torch.float32)),
    ):
        assert passes.take(layers, pictures) is None, (layers, pictures.shape)


@needs_compiled
def test_layers_that_somebody_listens_to_run_as_they_stand() -> None:
    network = create_model("nin_small").to(memory_format=torch.channels_last)
    pictures = torch.randn(4, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    heard = []
    layer = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    layer.register_forward_hook(lambda layer, inputs, output: heard.append(output.shape))
    network(pictures).sum().backward()
    assert len(heard) == 1


def test_without_compiled_files_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_model("nin_small").to(memory_format=torch.channels_last)
    pictures = torch.randn(4, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    with shortcuts.layer_by_layer():
        expected = copy.deepcopy(network)(pictures)
    monkeypatch.setattr(native, "compiled", lambda: None)
    torch.testing.assert_close(network(pictures), expected)


def test_a_broken_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "file_for", lambda kind: tmp_path / kind)
    (tmp_path / "broken").write_bytes(b"no library")
    assert native.load.__wrapped__("broken") is None
    assert native.load.__wrapped__("absent") is None


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_it_compiles_without_a_warning(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    built = build.compile_native(ROOT, tmp_path, flags=("-Wall", "-Wextra", "-Werror"))
    assert {path.name for path in built} >= {native.file_for(kind).name for kind in native.kinds()}
    assert sorted(tmp_path.iterdir()) == sorted(built)


def test_without_a_compiler_nothing_is_built(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert build.compile_native(ROOT, tmp_path) == []
    monkeypatch.setenv("CC", "false")  # one that cannot
    assert build.compile_native(ROOT, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
