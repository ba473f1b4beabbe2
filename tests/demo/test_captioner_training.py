"""The demo's captioner: its vocabulary, a few steps that learn and go on, and the stored one judged by its captions."""

from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, BlipForConditionalGeneration, BlipProcessor

from demo import captioner_training as training
from demo.captions import caption
from demo.judge_captions import agreement, said_ground, shares
from demo.training import Budget
from demo.world import draw, random_for, sample
from library.data.decoding import read_picture
from library.prepare.blip import Blip, open_blip
from library.prepare.captioner import Decoding
from tools.make_demo_captioner import captions_of

DEMO = Path(training.__file__).parent
CPU = torch.device("cpu")
# Somewhat below what the card says, for 40 pictures are few.
LEAST = {"background": 0.95, "body": 0.95, "shape": 0.85, "accessory": 0.85, "all four": 0.8, "nothing false": 0.8}


@pytest.fixture(scope="module")
def stored() -> Blip:
    return open_blip(str(DEMO / "captioner"), Decoding(), CPU, torch.float32)


@pytest.fixture(scope="module")
def processor() -> BlipProcessor:
    return training.build_processor()


def test_every_word_of_the_world_is_one_token(processor: BlipProcessor) -> None:
    for index in range(300):
        text = caption(sample(random_for(0, index)), random_for(1, index))
        tokens = processor.tokenizer.tokenize(text)
        assert len(tokens) == len(text.replace("-", " - ").replace(",", " , ").split()), text
    assert processor.tokenizer.unk_token_id not in processor.tokenizer("any other (text), 42!").input_ids


def test_captions_begin_with_dec_and_end_with_sep(processor: BlipProcessor) -> None:
    world = training.draw_world(3, 0, processor)
    assert world.shape == (3, 3, 64, 64) and world.dtype == torch.uint8
    pixels, ids = training.training_batch(world, processor, 0, 5)
    again = training.training_batch(world, processor, 0, 5)
    assert torch.equal(pixels, again[0]) and torch.equal(ids, again[1])
    assert pixels.shape == (training.BATCH, 3, 64, 64) and len(ids) == training.BATCH
    words = processor.tokenizer.get_vocab()
    assert set(ids[:, 0].tolist()) == {words["[DEC]"]}
    assert (ids == words["[SEP]"]).sum(dim=1).eq(1).all()


def test_pixels_are_those_of_the_processor(processor: BlipProcessor) -> None:
    world = training.draw_world(1, 0, processor)
    theirs = processor(images=draw(sample(random_for(0, 0))), return_tensors="pt").pixel_values
    assert torch.allclose(training.normalized(world, processor), theirs, atol=0.01)


def test_padding_does_not_count(processor: BlipProcessor) -> None:
    torch.manual_seed(0)
    model = training.build_captioner().eval()
    pixels, ids = torch.randn(2, 3, 64, 64), torch.tensor([[5, 60, 61, 3], [5, 62, 63, 3]])
    padded = torch.nn.functional.pad(ids, (0, 6))
    with torch.no_grad():
        short, long = (training.caption_loss(model, pixels, each).item() for each in (ids, padded))
    assert short == pytest.approx(long, rel=1e-2)


def test_it_learns_and_an_interrupted_training_goes_on_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"BATCH": 4, "WIDTH": 32, "VISION_LAYERS": 1, "TEXT_LAYERS": 1}.items():
        monkeypatch.setattr(training, name, value)
    unbroken = training.train_captioner(tmp_path / "unbroken", Budget(0.0, 6), seed=0, pictures=4).state_dict()
    budget, save = Budget(0.0, 6), training.save_checkpoint

    class Interrupted(Exception):
        """Stands for a lost machine."""

    def interrupt(path: Path, content: dict[str, object], budget: Budget) -> None:
        save(path, content, budget)
        raise Interrupted

    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    monkeypatch.setattr(training, "save_checkpoint", interrupt)
    with pytest.raises(Interrupted):
        training.train_captioner(tmp_path / "broken", budget, seed=0, pictures=4)
    assert budget.done_steps == 3
    monkeypatch.setattr(training, "save_checkpoint", save)
    resumed = training.train_captioner(tmp_path / "broken", Budget(0.0, 6), seed=0, pictures=4).state_dict()
    assert all(torch.allclose(tensor, resumed[name], atol=1e-6) for name, tensor in unbroken.items())
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert losses[1] < losses[0]


def test_the_folder_is_transformers_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, folder = training.build_captioner(), tmp_path / "captioner"
    training.write_captioner(folder, model)
    (folder / "README.md").write_text("the card")
    training.write_captioner(folder, model)
    assert (folder / "README.md").read_text() == "the card"
    assert [path.name for path in tmp_path.iterdir()] == ["captioner"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    read, facts = BlipForConditionalGeneration.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    ours = model.state_dict()
    assert all(torch.allclose(tensor, ours[name], atol=1e-3) for name, tensor in read.state_dict().items())
    for kind in (AutoProcessor, BlipProcessor):
        processor = kind.from_pretrained(folder)
        assert type(processor).__name__ == "BlipProcessor"
        assert processor.tokenizer.get_vocab() == training.build_processor().tokenizer.get_vocab()
        assert processor.image_processor.size["height"] == training.IMAGE_SIZE
    words = (folder / "vocab.txt").read_text().split("\n")[:-1]
    assert words == training.vocabulary() and len(words) == len(set(words))


def test_the_stored_captioner_describes_fresh_creatures(stored: Blip) -> None:
    creatures = [sample(random_for(77, index, "test")) for index in range(40)]
    captions = captions_of(stored, [draw(creature) for creature in creatures])
    figures = shares([agreement(text, one) for text, one in zip(captions, creatures, strict=True)])
    assert {name: part for name, part in figures.items() if part < LEAST[name]} == {}, figures


def test_the_stored_captioner_names_the_subjects_backgrounds(stored: Blip) -> None:
    paths = sorted((DEMO / "subject").glob("*.png"))
    captions = captions_of(stored, [read_picture(path) for path in paths])
    grounds = [said_ground(path.with_suffix(".txt").read_text()) for path in paths]
    right = [said_ground(text) == ground for text, ground in zip(captions, grounds, strict=True)]
    assert len(right) == 15 and sum(right) >= 14


def test_the_stored_captioner_is_small_and_has_a_card() -> None:
    files = [path for path in (DEMO / "captioner").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    assert "python tools/make_demo_captioner.py" in (DEMO / "captioner" / "README.md").read_text()
