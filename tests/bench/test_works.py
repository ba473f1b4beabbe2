"""The rows of the benchmark."""

from library.bench import works
from library.bench.rounds import Timing
from library.bench.works import Work, measure, works_of
from library.device import start_compute


def test_rows_and_names() -> None:
    assert [work.name for work in works_of(small=True)] == [
        "small sd1 256 b1 lora",
        "small sd1 256 b4 lora",
        "small sd1 256 b1 dreambooth",
        "small sd1 256 b4 dreambooth",
        "small sd1 256 b1 draw 10 steps",
    ]
    assert {work.name for work in works_of(small=False)} >= {
        "sd1 512 b1 lora",
        "sdxl 1024 b4 dreambooth",
        "sd1 512 b1 draw 50 steps",
    }
    assert len(works_of(small=False)) == 9


def test_settings_say_what_learns() -> None:
    lora, whole = Work("sd1", 512, 4).settings("bf16"), Work("sd1", 512, 1, whole=True).settings("no")
    assert not lora.trains_whole and lora.network_train_unet_only and lora.network_dim == 16
    assert lora.train_batch_size == 4 and lora.mixed_precision == "bf16"
    assert whole.trains_whole


def test_a_row_has_what_the_file_promises(monkeypatch) -> None:
    monkeypatch.setattr(works, "ours", lambda *_: lambda number: None)
    monkeypatch.setattr(works, "plain", lambda *_: lambda number: None)
    monkeypatch.setattr(works, "arithmetic", lambda _: 3_000_000_000)
    monkeypatch.setattr(works, "top_speed", lambda *_: 200_000_000_000.0)
    monkeypatch.setattr(works, "race", lambda *_: {"ours": Timing(50.0, None), "plain": Timing(75.0, None)})
    (row,) = measure([Work("sd1", 256, 4, small=True)], start_compute("no"), "no", 1, 1)
    assert row["work"] == "small sd1 256 b4 lora" and row["ratio"] == 1.5 and row["pictures_per_second"] == 80.0
    assert row["limit_ms"] == 15 and row["of_limit"] == 0.3 and 0 <= row["first_step_s"] < 1
    assert row["peak_gb"] is None
