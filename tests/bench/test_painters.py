"""Both ways draw the same picture."""

import numpy as np
import pytest

from library.bench import imagined
from library.bench.painters import our_pictures, pipeline_pictures
from library.bench.works import Work
from library.device import start_compute


def test_both_draw_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagined, "SMALL", {"block_out_channels": (32, 32, 64, 64), "sample_size": 8})
    work = Work("sd1", 64, 1, small=True, draws=4)
    mine, theirs = (make() for make in work.contestants(work.settings("no"), start_compute("no")))
    assert (mine.__qualname__, theirs.__qualname__) == tuple(
        f"{each.__name__}.<locals>.draw" for each in (our_pictures, pipeline_pictures)
    )
    pictures = [[np.asarray(draw(seed)[0]).astype(int) for seed in (1, 2)] for draw in (mine, theirs)]
    for one, other in zip(*pictures, strict=True):
        assert one.shape == (64, 64, 3) and one.std() > 5 and np.abs(one - other).max() <= 2
    assert np.abs(pictures[0][0] - pictures[0][1]).max() > 20
