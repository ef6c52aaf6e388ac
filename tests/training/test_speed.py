import pytest
import torch

import torchnin
from torchnin import NiN, NiNConfig
from torchnin.training import measure_speed


def test_networks_are_measured_and_left_as_they_were(tiny: NiNConfig) -> None:
    network = NiN(tiny).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    larger = torchnin.create_model("nin_cifar10", in_channels=1)
    small, large = measure_speed([network, larger], [(1, 28, 28), (1, 28, 28)], batch_size=4, seconds=0.5)
    for speed in (small, large):
        assert speed.rounds >= 3
        assert speed.batch_size == 4
        for rate in (speed.predict, speed.train):
            assert 0 < rate.low <= rate.median <= rate.high
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_wrong_calls(tiny: NiNConfig) -> None:
    with pytest.raises(ValueError, match="seconds is 0"):
        measure_speed([NiN(tiny)], [(1, 28, 28)], seconds=0)
    with pytest.raises(ValueError, match="batch_size is 1; speed is measured with at least 2"):
        measure_speed([NiN(tiny)], [(1, 28, 28)], batch_size=1)
