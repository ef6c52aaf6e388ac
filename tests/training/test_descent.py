"""SGD is torch's to the bit, without what torch.optim.Optimizer brings along."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from torchnin.training.descent import SGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_steps_are_those_of_torch(momentum: float) -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(5, 3, 3, 3)), nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(7))]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    groups = [[{"params": each[:1], "weight_decay": 0.1}, {"params": each[1:], "weight_decay": 0.0}] for each in (ours, theirs)]
    own = SGD(groups[0], lr=0.1, momentum=momentum)
    torchs = torch.optim.SGD(groups[1], lr=0.1, momentum=momentum, nesterov=momentum > 0, foreach=True)
    for step in range(4):
        for one, other in zip(ours, theirs, strict=True):
            # The last has no gradient at first, as a layer has that no loss reaches yet.
            one.grad = None if step < 2 and one is ours[2] else torch.randn_like(one)
            other.grad = None if one.grad is None else one.grad.clone()
        for optimizer in (own, torchs):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (1 + step)
            optimizer.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    for one, other in zip(ours, theirs, strict=True):
        assert own.state[one].keys() == torchs.state[other].keys()
        assert all(torch.equal(own.state[one][key], torchs.state[other][key]) for key in own.state[one])


def test_a_rate_that_lies_on_the_device_gives_the_same_steps() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5))]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    groups = [[{"params": each[:1], "weight_decay": 0.1}, {"params": each[1:], "weight_decay": 0.0}] for each in (ours, theirs)]
    own, torchs = SGD(groups[0], lr=0.1, momentum=0.9), torch.optim.SGD(groups[1], lr=0.1, momentum=0.9, nesterov=True)
    for group in own.param_groups:
        group["lr"] = torch.tensor(0.1)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        own.step()
        torchs.step()
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_a_training_does_not_import_torchs_compiler(few_file: Path, tmp_path: Path) -> None:
    """It takes seconds, and nothing is compiled."""
    code = "import sys\nfrom torchnin.commands.main import main\n"
    code += (
        "try:\n    main(sys.argv[1:])\nfinally:\n    print([name for name in ('torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    options = ("--num-epochs", "1", "--batch-size", "160", "--device", "cpu", "--deterministic", "--out", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(few_file), *options], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    assert (tmp_path / "run" / "result.json").is_file()
