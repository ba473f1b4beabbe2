"""What TensorBoard gets, and losses that are no numbers."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from library.train.health import Health
from library.train.report import SMOOTHING, Report
from tests.runs import events_of

CPU = torch.device("cpu")


def told(report: Report, *losses: float, first: int = 1) -> None:
    """Reports some steps."""
    for step, loss in enumerate(losses, first):
        report.step(step, torch.tensor(loss), torch.tensor(2 * loss), {"lr/unet": 0.1 / step}, samples=4)


def test_curves(tmp_path: Path) -> None:
    report = Report(tmp_path, 5, 0, read_every=2, device=CPU)
    told(report, 1.0, 0.5, 0.25)
    report.epoch(3)
    report.close()
    events = events_of(tmp_path)
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert curves["loss/current"] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert curves["norm/gradient"] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert [round(value, 6) for _, value in curves["lr/unet"]] == [0.1, 0.05, 0.033333]
    mean = (1.0 * SMOOTHING + 0.5) / (1 + SMOOTHING)
    assert curves["loss/average"][1][1] == pytest.approx(mean, rel=1e-5)
    assert curves["loss/epoch_average"] == [(3, pytest.approx(7 / 12))]
    assert {"speed/pictures_per_second", "memory/peak_gb"} <= curves.keys()


def test_losses_are_read_every_few_steps(tmp_path: Path) -> None:
    report = Report(tmp_path, 5, 0, read_every=3, device=CPU)
    told(report, 1.0, 1.0)
    assert report.smoothed == 0.0
    told(report, 1.0, first=3)
    assert report.smoothed == pytest.approx(1.0)
    report.close()


def test_a_step_that_may_be_left_out_is_in_no_curve(tmp_path: Path) -> None:
    report = Report(tmp_path, 5, 0, 1, CPU, Health(allowed=1))
    told(report, 1.0, float("nan"), 1.0)
    assert report.smoothed == pytest.approx(1.0)
    report.close()
    assert [event.step for event in events_of(tmp_path).Scalars("loss/current")] == [1, 3]


def test_a_state_leaves_no_point_in_memory(tmp_path: Path) -> None:
    """A run that is killed later goes on from there with a whole curve."""
    report = Report(tmp_path, 5, 0, 1, CPU)
    told(report, 1.0, 0.5)
    report.state()
    assert [event.step for event in events_of(tmp_path).Scalars("loss/current")] == [1, 2]
    report.close()


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, loss: float) -> None:
    report = Report(tmp_path, 5, 0, read_every=3, device=CPU)
    with pytest.raises(FloatingPointError, match="step 2"):
        told(report, 1.0, loss, 1.0)
    report.close()


def test_an_infinite_norm_alone_is_a_failure_but_in_fp16(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 1: the gradients are not finite"):
        Report(None, 5, 0, 1, CPU).step(1, torch.tensor(1.0), torch.tensor(float("inf")), {}, 1)
    report = Report(tmp_path, 5, 0, 1, CPU, Health(is_scaled=True))
    report.step(1, torch.tensor(1.0), torch.tensor(float("inf")), {}, 1)
    assert report.smoothed == pytest.approx(1.0)
    report.close()


def test_curves_go_on_after_a_resume(tmp_path: Path) -> None:
    """What a killed run wrote beyond its last state is not shown twice."""
    unbroken = Report(None, 6, 0, 1, CPU)
    told(unbroken, 6.0, 5.0, 4.0, 3.0)
    killed = Report(tmp_path, 6, 0, 1, CPU)
    told(killed, 6.0, 5.0)
    state = killed.state()
    told(killed, 99.0, first=3)
    killed.close()
    resumed = Report(tmp_path, 6, 2, 1, CPU)
    resumed.restore(state)
    told(resumed, 4.0, 3.0, first=3)
    resumed.close()
    assert resumed.smoothed == unbroken.smoothed
    values = [(e.step, e.value) for e in events_of(tmp_path).Scalars("loss/current")]
    assert values == [(1, 6.0), (2, 5.0), (3, 4.0), (4, 3.0)]


def test_pictures_and_texts(tmp_path: Path) -> None:
    report = Report(tmp_path, 5, 0, 1, CPU)
    report.text("settings", "seed = 7")
    report.picture(2, "preview/00", Image.new("RGB", (8, 16), "red"), "a red dog")
    report.close()
    events = events_of(tmp_path)
    (image,) = events.Images("preview/00")
    assert (image.step, image.width, image.height) == (2, 8, 16)
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert texts["settings/text_summary"] == "seed = 7"
    assert texts["preview/00/text_summary"] == "a red dog"


def test_other_processes_are_silent(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Report(None, 5, 0, 1, CPU)
    told(report, 1.0)
    report.say("something")
    report.epoch(1)
    report.close()
    assert capfd.readouterr() == ("", "")


def test_lines_above_the_bar(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = Report(tmp_path, 5, 0, 1, CPU)
    told(report, 0.75)
    report.say("something")
    report.close()
    out, err = capfd.readouterr()
    assert "something" in out
    assert "loss=0.7500" in err and "pictures/s=" in err and "peak=" in err
