"""LoRA-FA: the first matrix is drawn and stays."""

import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.lora_fa import LORA_FA


def test_the_first_matrix_is_drawn_and_does_not_learn() -> None:
    layer = LORA_FA.inject(nn.Sequential(nn.Linear(600, 8)), {"0": Size(200, 1.0)}, Options())["0"]
    LORA_FA.start(layer, 0)
    assert LORA_FA.parameters(layer) == [layer.up] == LORA_FA.faster(layer) and not layer.up.any()
    assert abs(float(layer.down.std()) - (2 / 800) ** 0.5) < 1e-3 and not layer.down.requires_grad
    assert set(LORA_FA.state(layer)) == {"up", "down"}
    assert torch.equal(layer.export(1.0)["lora_down.weight"], layer.down)
