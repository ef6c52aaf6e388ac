import numpy as np
import pytest
import torch

from torchnin import choose_device, create_model
from torchnin.device import within_memory


def test_each_choice_says_why() -> None:
    choice = choose_device()
    assert choice.reasons.keys() == {"device", "dtype", "memory_format"}
    lines = str(choice).splitlines()
    assert [line.split(":")[0] for line in lines] == ["device", "dtype", "memory_format"]
    assert all(reason in line for line, reason in zip(lines, choice.reasons.values(), strict=True))
    document = choice.to_dict()
    assert document["device"] == str(choice.device)
    assert document["dtype"] in ("float32", "bfloat16")
    assert document["threads"] == torch.get_num_threads()


def test_what_is_asked_for_is_taken() -> None:
    choice = choose_device("cpu", "float32")
    assert (choice.device, choice.dtype) == (torch.device("cpu"), torch.float32)
    assert choice.reasons["device"] == choice.reasons["dtype"] == "asked for"
    assert choose_device("cpu", "bfloat16").reasons["dtype"].startswith("asked for")


def test_bfloat16_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there, raising=False)
        choice = choose_device("cpu")
        assert choice.dtype == (torch.bfloat16 if there else torch.float32)
        assert ("computes in" in choice.reasons["dtype"]) == there
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert choose_device("cpu").dtype == torch.float32  # a torch that cannot say


@pytest.mark.parametrize(
    ("device", "dtype", "said"),
    [
        ("gpu", "auto", "'gpu' is no device; accepted: auto, cpu, cuda"),
        ("meta", "auto", "'meta'; present on this machine: cpu"),
        ("", "auto", "is no device"),
        ("cpu", "float16", "dtype is 'float16'; accepted: auto, float32, bfloat16"),
    ],
)
def test_what_is_not_there_is_refused(device: str, dtype: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose_device(device, dtype)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_a_gpu_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="'cuda'; present on this machine: cpu"):
        choose_device("cuda")


def test_a_network_is_placed_as_chosen() -> None:
    choice = choose_device("cpu", "float32")
    network = choice.place(create_model("nin_small"))
    assert network.body[0][0].weight.is_contiguous(memory_format=choice.memory_format)
    with choice.autocast():
        assert network.eval()(torch.rand(2, 1, 28, 28)).dtype == torch.float32
    with choose_device("cpu", "bfloat16").autocast():
        assert network(torch.rand(2, 1, 28, 28)).dtype == torch.bfloat16
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_bfloat16_sees_weights_that_change_inside_another_autocast() -> None:
    layer, pictures = torch.nn.Linear(4, 2), torch.rand(3, 4)
    with torch.autocast("cpu", enabled=False):
        for _ in range(2):
            with choose_device("cpu", "bfloat16").autocast():
                found = layer(pictures)
            torch.testing.assert_close(found.float(), layer(pictures), atol=0.05, rtol=0.05)
            with torch.no_grad():
                layer.weight += 1


def test_where_memory_is_short_pictures_are_halved_down_to_single_ones() -> None:
    seen: list[int] = []

    def doubled(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        if len(pictures) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes")
        return pictures * 2

    assert torch.equal(within_memory(doubled, torch.arange(7), torch.cat), 2 * torch.arange(7))
    assert seen == [7, 3, 1, 2, 4, 2, 2]


@pytest.mark.parametrize(
    ("error", "calls"), [(RuntimeError("could not create a primitive"), 3), (MemoryError(), 3), (RuntimeError("shapes do not fit"), 1)]
)
def test_what_smaller_pieces_do_not_help_is_raised(error: Exception, calls: int) -> None:
    seen: list[int] = []

    def fails(pictures: np.ndarray) -> np.ndarray:
        seen.append(len(pictures))
        raise error

    with pytest.raises(type(error)) as raised:
        within_memory(fails, np.zeros(4), np.concatenate)
    assert raised.value is error
    assert len(seen) == calls
