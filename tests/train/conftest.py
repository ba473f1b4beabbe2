"""What the tests of library/train share: settings, datasets without files, and the smallest thing that learns."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from library.data.dataset import Dataset
from library.data.folders import Subset
from library.device import Compute, start_compute
from library.models.family import Family, open_family
from library.settings import Settings, read_settings
from tests.data.samples import imagined
from tests.runs import Bench


@pytest.fixture
def settings_of(bench: Bench) -> Callable[..., Settings]:
    """Settings of a run on the toy model, with changes."""
    return lambda **changes: read_settings(bench.argv(**changes))


@pytest.fixture
def compute() -> Compute:
    """This process alone, on the CPU, in float32."""
    return start_compute("no")


@pytest.fixture
def family(toy_model: Path) -> Family:
    """The toy's family."""
    return open_family(str(toy_model))


@pytest.fixture
def dataset_of() -> Callable[..., Dataset]:
    """A dataset of `count` pictures that have no files, and `wide` more in a second bucket, in batches of 2."""

    def _dataset(count: int = 5, wide: int = 0, seed: int = 3, **subset: Any) -> Dataset:
        options = {"resolution": (128, 128), "enable_bucket": True, "min_bucket_reso": 64, "batch_size": 2, **subset}
        folder = Subset(Path("pictures"), **options)
        square = [imagined(f"square{number}", folder) for number in range(count)]
        return Dataset([*square, *(imagined(f"wide{number}", folder, (256, 64)) for number in range(wide))], seed)

    return _dataset


class TinyNetwork:
    """Stands in for the adapters: one matrix in each part."""

    alpha = 1.0

    def __init__(self, *parts: str) -> None:
        self.layers = {part: {} for part in parts}
        self.matrices = {part: nn.Parameter(torch.full((2, 2), 0.5)) for part in parts}

    def parameters(self, part: str) -> list[nn.Parameter]:
        return [self.matrices[part]]

    def state_dict(self) -> dict[str, Tensor]:
        return {part: matrix.detach().clone() for part, matrix in self.matrices.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for part, matrix in self.matrices.items():
            matrix.copy_(state[part])


@pytest.fixture
def tiny() -> TinyNetwork:
    """A network of a 2 x 2 matrix in each part."""
    return TinyNetwork("unet", "text_encoder")
