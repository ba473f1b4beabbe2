"""What a step costs at least."""

import torch
from torch import nn

from library.bench.limits import arithmetic, top_speed


def test_operations_are_counted_forward_and_backward() -> None:
    layer, x = nn.Linear(32, 16, bias=False), torch.randn(8, 32, requires_grad=True)
    once = 2 * 8 * 32 * 16
    assert arithmetic(lambda _: layer(x)) == once
    assert arithmetic(lambda _: layer(x).sum().backward()) == 3 * once
    layer.requires_grad_(False)
    assert arithmetic(lambda _: layer(x).sum().backward()) == 2 * once


def test_the_device_has_a_speed() -> None:
    device = torch.device("cpu")
    speed = top_speed(device, torch.float32)
    assert 1e9 < speed < 1e15
    assert top_speed(device, torch.float32) == speed
