"""Captions are read once where nothing can change, and the encoders leave the device."""

from dataclasses import replace

import pytest
import torch

from library.errors import InputError
from library.train import captions as captions_module
from library.train.captions import TextReader, captions_of_run


@pytest.fixture
def reader(family, settings_of, compute):
    """A reader of the frozen toy encoder."""
    return TextReader(family, family.load_text_encoders(torch.float32), settings_of(), compute, trained=False)


def counted(reader: TextReader) -> list[int]:
    """Grows by the batch size at each pass through the encoder."""
    calls: list[int] = []
    reader.encoders[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_learned_by_heart(reader) -> None:
    before = reader.read(["a dog", ""]).hidden
    calls = counted(reader)
    reader.learn_by_heart(["a dog", "", "a cat", "a dog"])
    assert len(calls) == 1  # only the cat was new
    assert torch.equal(reader.read(["a dog", ""]).hidden, before)
    assert reader.read(["a cat"] * 3).hidden.shape == (3, 77, 32)
    assert len(calls) == 1 and not reader.stays
    assert not torch.equal(before[0], before[1])


def test_a_batch_is_its_captions_one_by_one(reader, settings_of) -> None:
    """So frozen and learning encoders answer alike."""
    learning = TextReader(reader.family, reader.encoders, settings_of(), reader.compute, trained=True)
    together = learning.read(["a dog", "a cat"]).hidden
    torch.testing.assert_close(reader.read(["a dog", "a cat"]).hidden, together, atol=1e-5, rtol=1e-5)


def test_learning_encoders_are_read_each_time(reader) -> None:
    reader.trained = True
    calls = counted(reader)
    reader.learn_by_heart(["a dog"])
    assert reader.stays
    calls.clear()
    reader.read(["a dog"])
    reader.read(["a dog"])
    assert len(calls) == 2


@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_that_is_not_there_is_found_at_once(family, settings_of, compute, trained: bool) -> None:
    encoders = family.load_text_encoders(torch.float32)
    with pytest.raises(InputError, match="clip_skip 9 is not between 1 and 2"):
        TextReader(family, encoders, settings_of(clip_skip=9), compute, trained).learn_by_heart(["a"])


def test_too_many_captions_are_not_kept(reader, monkeypatch) -> None:
    monkeypatch.setattr(captions_module, "REMEMBERED", 2)
    reader.learn_by_heart(["a", "b", "c"])
    assert reader.stays and len(reader._known) == 2
    assert reader.read(["c", "d"]).hidden.shape[0] == 2
    calls = counted(reader)
    reader.read(["a", "c"])  # the memory is emptied before it grows without end
    assert len(calls) == 2 and len(reader._known) == 2


def test_conditions_lie_on_the_runs_device(reader) -> None:
    """A caption that comes after the encoders left the device is answered where the UNet is."""
    reader.compute = replace(reader.compute, device=torch.device("meta"))
    assert reader.read(["late"]).hidden.device.type == "meta"


def test_long_captions_and_clip_skip(family, settings_of, compute) -> None:
    encoders = family.load_text_encoders(torch.float32)
    plain = TextReader(family, encoders, settings_of(), compute, False).read(["a dog"]).hidden
    skipped = TextReader(family, encoders, settings_of(clip_skip=2), compute, False).read(["a dog"]).hidden
    longer = TextReader(family, encoders, settings_of(max_token_length=150), compute, False).read(["a dog"]).hidden
    assert plain.shape == skipped.shape and not torch.allclose(plain, skipped)
    assert longer.shape == (1, 152, 32)


def test_every_caption_of_a_run(dataset_of) -> None:
    dataset = dataset_of(3, shuffle_caption=True, caption_dropout_rate=0.3)
    known = set(captions_of_run([dataset], epochs=4))
    shown = {dataset.caption_of(sample, epoch) for epoch in range(4) for sample in dataset.samples}
    assert known == shown and len(known) > 3
