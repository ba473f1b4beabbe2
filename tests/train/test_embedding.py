"""A new word's rows: where they begin, how long they may be, when they learn, and with what they learn."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from library.data.dataset import Dataset
from library.errors import InputError
from library.log import warn
from library.lookup import OPTIMIZERS
from library.models.embeddings import mean_norm, rows_of
from library.models.family import open_family
from library.train.base import open_base
from library.train.embedding import (
    LONGEST,
    SHORTEST,
    NewWord,
    Pivot,
    check_word,
    embedding_rate,
    embedding_spans,
    start_word,
)
from library.train.model import build_model
from library.train.rates import part_rates
from tests.toy_families import write_toy

WORD = {"token_string": "<toy>", "init_word": "creature"}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def folder(request, tmp_path_factory: pytest.TempPathFactory):
    """A toy of each kind."""
    return write_toy(tmp_path_factory.mktemp(request.param) / "model", request.param)


@pytest.fixture
def build(settings_of, compute):
    """Builds a toy's model for a new word, in some number format."""

    def _build(dtype: torch.dtype = torch.float32, **changes):
        settings = settings_of(**WORD, **changes)
        return build_model(settings, open_base(settings), replace(compute, dtype=dtype), 5, ["a <toy>"])

    return _build


def pull(model) -> None:
    """One step towards whatever `<toy>` reads as smaller."""
    condition = model.reader.read(["a <toy>", "<toy> b"])
    answer = model.family.predict(model.unet, torch.ones(2, 4, 8, 8), torch.tensor([500, 500]), condition)
    model.learner.backward(answer.square().sum())
    model.learner.step()


def weights_of(model) -> dict[str, torch.Tensor]:
    return model.learner.learned.state_dict()


def moved(model, before: dict[str, torch.Tensor]) -> set[str]:
    """Which of the word, the UNet's and the text encoders' adapters changed."""
    changed = [name for name, now in weights_of(model).items() if not torch.equal(now, before[name])]
    return {name.partition("_")[2].partition("_")[0] if name.startswith("lora") else name.partition(".")[0]
            for name in changed}  # fmt: skip


def start(settings_of, folder, **changes) -> tuple[NewWord, dict[str, nn.Module]]:
    """A word on text encoders that nothing else learns on."""
    settings = settings_of(**{"pretrained_model_name_or_path": folder, **WORD, **changes})
    family = open_base(settings)
    encoders = dict(zip(family.text_parts, family.load_text_encoders(torch.float32), strict=True))
    return start_word(settings, family, encoders), encoders


def test_it_begins_as_the_known_word(settings_of, folder) -> None:
    word, encoders = start(settings_of, folder, init_word="red creature", num_vectors_per_token=3)
    family = open_family(str(folder))
    red, creature = family.tokenize(["red creature"], 75)[0].ids[0, 0, 1:3].tolist()
    for part, encoder in encoders.items():
        assert torch.equal(word.rows[part], rows_of(encoder, [red, creature, red]))
        assert word.rows[part].requires_grad and word.rows[part].dtype == torch.float32
    assert [len(word.parameters(part)) for part in ("embedding", "unet")] == [len(encoders), 0]
    assert word.embedding().word == "<toy>" and word.embedding().count == 3


def test_what_does_not_fit_into_the_word_is_said(settings_of, folder, capsys) -> None:
    warn.cache_clear()
    word, encoders = start(settings_of, folder, init_word="red creature")
    assert "init_word 'red creature' has 2 tokens, of which the first 1 are used" in capsys.readouterr().err
    red = open_family(str(folder)).tokenize(["red"], 75)[0].ids[0, 0, 1].item()
    assert torch.equal(word.rows["text_encoder"], rows_of(encoders["text_encoder"], [red]))
    with pytest.raises(InputError, match="init_word ' ' has no tokens"):
        start(settings_of, folder, init_word=" ")


def test_rows_stay_about_as_long_as_words_are(settings_of, folder) -> None:
    word, encoders = start(settings_of, folder, num_vectors_per_token=3)
    for part, encoder in encoders.items():
        usual, rows = mean_norm(encoder), word.rows[part]
        fitting = rows[1].detach().clone()
        with torch.no_grad():
            rows[0] *= 100
            rows[2] *= 0.001
        directions = nn.functional.normalize(rows.detach().clone(), dim=1)
        word.keep_usual()
        lengths = rows.detach().norm(dim=1)
        torch.testing.assert_close(lengths[0].item(), LONGEST * usual)
        torch.testing.assert_close(lengths[2].item(), SHORTEST * usual)
        assert torch.equal(rows[1], fitting)  # bit for bit
        torch.testing.assert_close(nn.functional.normalize(rows.detach(), dim=1), directions)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if "ScheduleFree" not in name])
def test_every_optimizer_keeps_them_so(build, optimizer: str) -> None:
    rate = 1.0 if optimizer.startswith(("Prodigy", "DAdapt")) else 50.0
    model = build(embedding_only=True, optimizer_type=optimizer, embedding_lr=rate, max_grad_norm=0)
    word = model.learner.learned
    before = weights_of(model)
    for _ in range(2):
        pull(model)
    assert moved(model, before) == {"embedding"}
    for part, rows in word.rows.items():
        lengths = rows.detach().norm(dim=1) / word.usual[part]
        assert (lengths <= LONGEST * 1.001).all() and (lengths >= SHORTEST * 0.999).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alone_nothing_else_learns(build, dtype: torch.dtype) -> None:
    model = build(dtype, embedding_only=True, gradient_checkpointing=True)
    assert isinstance(model.learner.learned, NewWord) and model.result.kind == "embedding"
    assert model.reader.trained and model.reader.stays
    assert not any(encoder.training for encoder in model.reader.encoders)
    learning = {id(parameter) for parameter in model.learner.parameters}
    for module in (model.unet, *model.reader.encoders):
        for parameter in module.parameters():
            assert parameter.requires_grad == (id(parameter) in learning)
            assert parameter.dtype == (torch.float32 if parameter.requires_grad else dtype)
    assert part_rates(model.result.settings) == {"embedding": 5e-3}


def test_with_a_network_all_parts_learn(build, folder) -> None:
    model = build(pretrained_model_name_or_path=folder)
    before = weights_of(model)
    for _ in range(2):
        pull(model)
    texts = {"te1", "te2"} if len(model.family.text_parts) == 2 else {"te"}
    assert moved(model, before) == {"embedding", "unet", *texts}
    assert all(encoder.training for encoder in model.reader.encoders)


def test_only_text_encoders_with_adapters_are_in_training_mode(build) -> None:
    model = build(network_train_unet_only=True)
    assert not any(encoder.training for encoder in model.reader.encoders) and model.unet.training


def test_they_take_turns(build) -> None:
    """The word in the first two of five steps, everything else in the others."""
    model = build(ti_steps=2, lr_scheduler="linear")
    turns, rates = [], []
    for _ in range(5):
        before = weights_of(model)
        rates.append(model.learner.rates())
        pull(model)
        turns.append("embedding" in moved(model, before) and "alone" or "unet" in moved(model, before) and "network")
    assert turns == ["alone", "alone", "network", "network", "network"]
    assert [round(each["lr/embedding"] / 5e-3, 6) for each in rates] == [1, 0.5, 0, 0, 0]
    assert [round(each["lr/unet"] / 1e-2, 6) for each in rates] == [0, 0, 1, 0.666667, 0.333333]


def test_a_state_tells_whose_turn_it_is(build) -> None:
    model = build(ti_steps=1)
    pull(model)
    weights, state = weights_of(model), model.learner.state()
    for _ in range(2):
        pull(model)
    again = build(ti_steps=1)
    again.learner.restore(weights, state)
    assert not any(rows.requires_grad for rows in again.learner.learned.parameters("embedding"))
    for _ in range(2):
        pull(again)
    expected = weights_of(model)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights_of(again).items())
    assert all(torch.equal(weights[name], expected[name]) for name in expected if name.startswith("embedding."))


def test_both_come_back_from_a_state(build) -> None:
    learned = build().learner.learned
    assert isinstance(learned, Pivot)
    state = {name: tensor + 1 if "alpha" not in name else tensor for name, tensor in learned.state_dict().items()}
    learned.load(state)
    found = learned.state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    without = {name: tensor for name, tensor in state.items() if not name.startswith("embedding.")}
    with pytest.raises(InputError, match="holds no rows of shape"):
        learned.load(without)


def test_turns(settings_of) -> None:
    parts = ["unet", "embedding"]
    assert embedding_spans(settings_of(**WORD), parts, 10) == {}
    expected = {"unet": range(3, 10), "embedding": range(3)}
    assert embedding_spans(settings_of(**WORD, ti_steps=3), parts, 10) == expected
    assert embedding_spans(settings_of(**WORD, ti_steps=0.3), parts, 10) == expected
    assert embedding_spans(settings_of(**WORD, ti_steps=0.001), parts, 10)["embedding"] == range(1)
    long = settings_of(**WORD, ti_steps=10, max_train_steps=50)
    with pytest.raises(InputError, match="ti_steps = 10 leaves the network no step of the run's 10"):
        embedding_spans(long, parts, 10)


def test_rates(settings_of) -> None:
    assert embedding_rate(settings_of(**WORD)) == 5e-3
    assert embedding_rate(settings_of(**WORD, embedding_lr=0.1)) == 0.1
    assert embedding_rate(settings_of(**WORD, optimizer_type="Prodigy", learning_rate=1)) == 1
    rates = part_rates(settings_of(**WORD, unet_lr=1, text_encoder_lr=2), ("text_encoder", "text_encoder_2"))
    assert rates == {"unet": 1, "text_encoder": 2, "text_encoder_2": 2, "embedding": 5e-3}


def with_captions(dataset: Dataset, *captions: str) -> list:
    """The pictures with these captions."""
    return [replace(picture, caption=text) for picture, text in zip(dataset.pictures, captions, strict=False)]


def test_captions_that_lack_the_word(settings_of, dataset_of, capsys) -> None:
    warn.cache_clear()
    settings, dataset = settings_of(**WORD), dataset_of(3)
    with pytest.raises(InputError, match=r"token_string '<toy>' is in none of the 3 captions.*square0.*trigger_words"):
        check_word(settings, dataset.pictures)
    check_word(settings, with_captions(dataset, "a <TOY>", "<toy>", "x, (<toy>:1.2)"))
    assert capsys.readouterr().err == ""
    check_word(settings, with_captions(dataset, "a <TOY>", "b", "c"))
    assert "2 of 3 captions lack token_string '<toy>'; set trigger_words = '<toy>'" in capsys.readouterr().err
    check_word(settings_of(), dataset.pictures)


@pytest.mark.parametrize(
    "subset", [{"caption_prefix": "{a photo of|one} <toy>", "enable_wildcard": True}, {"trigger_words": "<toy>"}]
)
def test_words_put_into_captions_count(settings_of, dataset_of, subset: dict) -> None:
    check_word(settings_of(**WORD), dataset_of(2, **subset).pictures)


def test_class_pictures_need_no_word(settings_of, dataset_of) -> None:
    subject, kind = dataset_of(1, trigger_words="<toy>"), dataset_of(2, is_reg=True)
    check_word(settings_of(**WORD), [*subject.pictures, *kind.pictures])


def test_a_known_word_is_refused(settings_of) -> None:
    with pytest.raises(InputError, match="'sks' cannot be a new word, because the model's vocabulary has it"):
        open_base(settings_of(token_string="sks", init_word="creature"))
