"""Captions to hidden states: chunks, markers, skipped layers, gradients, old and new transformers."""

import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from library.errors import InputError
from library.models import text
from library.models.layout import FILES
from tests import toys
from tests.toy_families import toy_encoder, write_toy

START, END = 49406, 49407


@pytest.fixture(scope="module")
def tokenizer() -> text.Tokenizer:
    return text.Tokenizer(FILES / "sd1" / "tokenizer")


@pytest.fixture(scope="module")
def encoder() -> CLIPTextModel:
    torch.manual_seed(0)
    return toys.toy_text_encoder(3).eval()


class OldModel(nn.Module):
    """CLIPTextModel as it was before transformers 5.6: everything inside `text_model`."""

    def __init__(self, config) -> None:
        super().__init__()
        self.text_model = CLIPTextModel(config)
        self.config = config

    def forward(self, **arguments):
        return self.text_model(**arguments)


def test_a_short_caption_is_one_chunk(tokenizer: text.Tokenizer) -> None:
    ids = tokenizer(["a photo of a cat", ""], 75)
    assert ids.shape == (2, 1, 77)
    assert ids[0, 0, :7].tolist() == [START, 320, 1125, 539, 320, 2368, END]
    assert ids[0, 0, 7:].tolist() == [END] * 70
    assert ids[1, 0].tolist() == [START] + [END] * 76


def test_a_long_caption_is_cut_into_chunks(tokenizer: text.Tokenizer) -> None:
    caption = " ".join(["cat"] * 75 + ["dog"] * 75 + ["a"] * 10)
    assert tokenizer.count(caption) == 160
    [[first, second, third]] = tokenizer([caption], 225).tolist()
    assert first == [START] + [2368] * 75 + [END]
    assert second == [START] + [1929] * 75 + [END]
    assert third == [START] + [320] * 10 + [END] * 66
    assert tokenizer([caption], 150).tolist() == [[first, second]]
    assert tokenizer([caption], 75).tolist() == [[first]]


def test_tokens_are_counted_without_markers(tokenizer: text.Tokenizer) -> None:
    assert (tokenizer.count(""), tokenizer.count("a photo of a cat")) == (0, 5)
    with pytest.raises(InputError, match="100 is not one of 75, 150 and 225"):
        tokenizer(["x"], 100)


WORDS = st.lists(st.sampled_from(["don't ", "café", "ÅB ", "1girl", " ", "<|endoftext|>"])).map("".join)


@effort(deadline=None)
@given(st.text() | st.text("ab'1 ,.é\t\n-:()") | WORDS)
def test_words_are_counted_as_the_whole_is(tokenizer: text.Tokenizer, caption: str) -> None:
    assert tokenizer.count(caption) == len(tokenizer._ids(caption)) == tokenizer.count(caption)


def test_no_token_is_shorter_than_a_byte(tokenizer: text.Tokenizer) -> None:
    """So that captions of fewer bytes need not be counted."""
    for caption in ("!?!?", "ééé", "名前", "☺☺", "a b c", "1234"):
        assert tokenizer.count(caption) <= len(caption.encode())


def test_hundred_thousand_captions_are_counted_in_seconds(tokenizer: text.Tokenizer) -> None:
    """By their words; each anew would take a minute and more."""
    words = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("hair", "dress", "sky", "eyes")]
    captions = [", ".join(words[number % 7 :] + [f"tag{number % 999}"]) for number in range(20_000)]
    began = time.process_time()
    assert sum(map(tokenizer.count, captions)) > 20_000 * 15
    assert time.process_time() - began < 2


def test_weights_stand_at_their_tokens(tokenizer: text.Tokenizer) -> None:
    ids, weights = tokenizer.weighted(["a (red cat:1.5)", "dog", ""], 75)
    assert torch.equal(ids, tokenizer(["a red cat", "dog", ""], 75))
    assert weights.shape == ids.shape and weights.dtype == torch.float32
    assert weights[0, 0, :5].tolist() == [1, 1, 1.5, 1.5, 1]
    assert weights[1:].min() == weights[1:].max() == 1
    assert tokenizer.count("a (red cat:1.5)", weighted=True) == 3


@effort(deadline=None)
@given(st.text(st.characters(blacklist_characters="()[]\\", blacklist_categories=["Cs"])))
def test_without_weights_the_tokens_are_the_same(tokenizer: text.Tokenizer, caption: str) -> None:
    ids, weights = tokenizer.weighted([caption], 150)
    assert torch.equal(ids, tokenizer([caption], 150)) and bool((weights == 1).all())


@pytest.mark.parametrize("skip", [None, 2])
@pytest.mark.parametrize("length", [75, 150, 225])
def test_weights_multiply_what_the_chunks_say(tokenizer, encoder, length: int, skip: int | None) -> None:
    caption = " ".join(["cat"] * (length - 5)) + " (dog:1.5)"
    ids, weights = tokenizer.weighted([caption, "cat"], length)
    plain = text.encode(encoder, ids, skip)
    hidden = text.encode(encoder, ids, skip, weights)
    place = length - 5 + 1
    assert torch.equal(hidden[1], plain[1])
    if length > 75:
        assert torch.equal(hidden[0, : length - 74], plain[0, : length - 74])  # earlier chunks have no weights
    ratio = hidden[0, length - 73 : length] / plain[0, length - 73 : length]
    factor = ratio[0, 0]
    torch.testing.assert_close(ratio[place - (length - 73)] / factor, torch.full_like(ratio[0], 1.5))
    others = torch.arange(len(ratio)) != place - (length - 73)
    torch.testing.assert_close(ratio[others] / factor, torch.ones_like(ratio[others]), atol=1e-4, rtol=1e-4)


def test_long_captions_give_no_warning(tokenizer: text.Tokenizer, caplog, capfd) -> None:
    tokenizer(["cat " * 300], 225)
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_one_chunk_is_what_the_model_says(tokenizer: text.Tokenizer, encoder: CLIPTextModel) -> None:
    tokens = tokenizer(["a red cat", "dog"], 75)
    expected = encoder(tokens[:, 0]).last_hidden_state
    assert torch.equal(text.encode(encoder, tokens, None), expected)
    assert torch.equal(text.encode(encoder, tokens, 1), expected)


@pytest.mark.parametrize("length", [150, 225])
def test_chunks_are_read_alone_and_joined_without_inner_markers(tokenizer, encoder, length: int) -> None:
    tokens = tokenizer(["cat dog " * 60, "dog"], length)
    hidden = text.encode(encoder, tokens, None)
    assert hidden.shape == (2, length + 2, toys.TEXT_WIDTH)
    for row in range(2):
        parts = [encoder(chunk[None]).last_hidden_state[0] for chunk in tokens[row]]
        middle = [part[1:76] for part in parts]
        expected = torch.cat([parts[0][:1], *middle, parts[-1][76:]])
        torch.testing.assert_close(hidden[row], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("skip", [2, 3])
def test_clip_skip_reads_an_earlier_layer_through_the_final_norm(tokenizer, encoder, skip: int) -> None:
    tokens = tokenizer(["a red cat"], 75)
    short = toys.toy_text_encoder(4 - skip).eval()
    short.load_state_dict(encoder.state_dict(), strict=False)  # the same model without its last layers
    expected = short(tokens[:, 0]).last_hidden_state
    torch.testing.assert_close(text.encode(encoder, tokens, skip), expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(text.encode(encoder, tokens, None), expected, atol=1e-3)


@pytest.mark.parametrize("skip", [0, 4, -1])
def test_clip_skip_beyond_the_layers_is_refused(tokenizer, encoder, skip: int) -> None:
    if skip == 0:
        assert torch.equal(
            text.encode(encoder, tokenizer([""], 75), 0), text.encode(encoder, tokenizer([""], 75), 1)
        )
        return
    with pytest.raises(InputError, match="between 1 and 3"):
        text.encode(encoder, tokenizer([""], 75), skip)


@pytest.mark.parametrize("skip", [None, 2])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_reach_the_layers_under_autocast(tokenizer, skip, checkpointed: bool) -> None:
    torch.manual_seed(0)
    encoder = toys.toy_text_encoder(3).train()
    if checkpointed:
        encoder.gradient_checkpointing_enable()
    tokens = tokenizer(["a red cat " * 30], 150)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = text.encode(encoder, tokens, skip)
    plain = text.encode(toys_copy(encoder), tokens, skip)
    torch.testing.assert_close(hidden.float(), plain, atol=0.1, rtol=0.1)
    hidden.float().square().sum().backward()
    layers = text.adapter_layers(encoder, "lora_te")
    gradients = [encoder.get_submodule(path).weight.grad for path in layers]
    reached = sum(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)
    assert reached == (12 if skip else 18)  # a skipped layer learns nothing


def toys_copy(encoder: CLIPTextModel) -> CLIPTextModel:
    """The same model, new."""
    copy = toys.toy_text_encoder(3).eval()
    copy.load_state_dict(encoder.state_dict())
    return copy


def test_both_generations_of_transformers(tokenizer, encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    names = encoder.state_dict()
    plain = {key.removeprefix("text_model."): tensor for key, tensor in names.items()}
    new = text.load_text_encoder(encoder.config.to_dict(), plain, torch.float32, "toy")
    monkeypatch.setattr(text, "CLIPTextModel", OldModel)
    old = text.load_text_encoder(encoder.config.to_dict(), plain, torch.float32, "toy")
    assert all(key.startswith("text_model.") for key in old.state_dict())
    tokens = tokenizer(["a red cat " * 30], 150)
    for skip in (None, 2):
        expected = text.encode(encoder, tokens, skip)
        assert torch.equal(text.encode(old, tokens, skip), expected)
        assert torch.equal(text.encode(new, tokens, skip), expected)
    stems = text.adapter_layers(old, "lora_te")
    assert all(path.startswith("text_model.encoder.layers.") for path in stems)
    assert list(stems.values()) == list(text.adapter_layers(encoder, "lora_te").values())


def test_the_pooled_vector_is_the_end_markers_whatever_old_configurations_call_it() -> None:
    """A learned token stands behind all others in the vocabulary, the end marker too."""
    encoder = toy_encoder("text_encoder_2", "gelu", vocabulary=49410)
    plain = {key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}
    config, tokens = encoder.config.to_dict(), torch.full((1, 1, 77), 49407)
    tokens[0, 0, :3] = torch.tensor([49406, 320, 49409])
    pooled = []
    for facts in (config, config | {"eos_token_id": 2}, {k: v for k, v in config.items() if k != "eos_token_id"}):
        loaded = text.load_text_encoder(facts, plain, torch.float32, "toy", projects=True)
        states, found = text.read(loaded, tokens, 1)
        torch.testing.assert_close(found, loaded.text_projection(states[:, 0, 3]))
        pooled.append(found)
    assert torch.equal(pooled[0], pooled[1]) and torch.equal(pooled[0], pooled[2])


def test_an_exclamation_mark_is_a_word_where_folders_call_it_padding(tokenizer, tmp_path: Path) -> None:
    write_toy(tmp_path, "sd2")
    own = text.Tokenizer(tmp_path / "tokenizer", 0)
    assert CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")("wow!").input_ids[1:-1] == [2781, 0]
    assert own(["wow!"], 75)[0, 0, :5].tolist() == [49406, 2781, 256, 49407, 0]
    assert torch.equal(own(["so! a cat !!"], 75)[0, 0, :6], tokenizer(["so! a cat !!"], 75)[0, 0, :6])
    assert own.count("wow! !!!") == tokenizer.count("wow! !!!") == 3


def test_the_files_name_of_a_path() -> None:
    expected = "text_model.encoder.layers.0.mlp.fc1"
    assert text.file_path("encoder.layers.0.mlp.fc1") == expected
    assert text.file_path(expected) == expected


def test_the_tokenizer_is_the_demo_models_own(tokenizer) -> None:
    own = text.Tokenizer(Path(__file__).parents[2] / "demo" / "model" / "tokenizer")
    caption = "A round, red Creature's hat — café №5 ☺"
    assert torch.equal(own([caption], 75), tokenizer([caption], 75))


@pytest.fixture(scope="module")
def taught() -> text.Tokenizer:
    """A tokenizer that knows two new words."""
    tokenizer = text.Tokenizer(FILES / "sd1" / "tokenizer")
    tokenizer.add_word("<sks-cat>", 3, 49408)
    tokenizer.add_word("zogblat", 1, 49408)
    return tokenizer


@pytest.mark.parametrize(
    ("caption", "ids"),
    [
        ("a <sks-cat> cat", [320, 49408, 49409, 49410, 2368]),
        ("a<SKS-Cat>cat", [320, 49408, 49409, 49410, 2368]),
        ("<\u017fks-cat>", [49408, 49409, 49410]),  # the long s, which is an s in capitals
        ("Zogblat, cat", [49411, 267, 2368]),
        ("zogblat<sks-cat>zogblat", [49411, 49408, 49409, 49410, 49411]),
    ],
)
def test_new_words_become_new_tokens(taught: text.Tokenizer, caption: str, ids: list[int]) -> None:
    assert taught([caption], 75)[0, 0, 1 : 1 + len(ids)].tolist() == ids
    assert taught([caption], 75)[0, 0, 1 + len(ids)] == END
    assert taught.count(caption) == len(ids)


def test_pieces_of_other_words_are_no_new_words(taught: text.Tokenizer, tokenizer: text.Tokenizer) -> None:
    captions = ["zogblats", "azogblat", "sks-cat", "a red cat"]
    assert torch.equal(taught(captions, 75), tokenizer(captions, 75))


def test_new_words_have_weights(taught: text.Tokenizer) -> None:
    ids, weights = taught.weighted(["a (<sks-cat>:1.5) cat"], 75)
    assert ids[0, 0, 1:6].tolist() == [320, 49408, 49409, 49410, 2368]
    assert weights[0, 0, 1:6].tolist() == [1, 1.5, 1.5, 1.5, 1]
    assert taught.count("(<sks-cat>:1.5)", weighted=True) == 3


def test_a_new_word_is_cut_where_the_caption_is(taught: text.Tokenizer) -> None:
    caption = "cat " * 74 + "<sks-cat>"
    assert taught.count(caption) == 77
    assert taught([caption], 75)[0, 0, -2:].tolist() == [49408, END]
    assert taught([caption], 150)[0, 1, 1:4].tolist() == [49409, 49410, END]


@effort(deadline=None)
@given(st.lists(st.sampled_from(["<sks-cat>", "ZOGBLAT", "zog", "a", ",", "\u0130", " ", "<"])).map("".join))
def test_new_words_are_counted_as_the_whole_is(taught: text.Tokenizer, caption: str) -> None:
    assert taught.count(caption) == len(taught._ids(caption))


def test_prompts_begin_a_chunk_at_each_break(tokenizer: text.Tokenizer) -> None:
    ids, weights = tokenizer.prompts(["a dog BREAK a (cat:1.5)", "a dog"])
    assert ids.shape == weights.shape == (2, 2, 77)
    dog, cat = (tokenizer([words], 75)[0, 0] for words in ("a dog", "a cat"))
    nothing = tokenizer([""], 75)[0, 0]
    assert torch.equal(ids[0], torch.stack([dog, cat])) and torch.equal(ids[1], torch.stack([dog, nothing]))
    assert weights[0, 1, :4].tolist() == [1, 1, 1.5, 1] and (weights != 1).sum() == 1
    assert tokenizer.chunk_count("a dog BREAK a cat") == 2 and tokenizer.chunk_count("") == 1


@pytest.mark.parametrize(("words", "chunks"), [(75, 1), (76, 2), (226, 4)])
def test_prompts_are_read_whole_unless_they_are_to_be_cut(tokenizer: text.Tokenizer, words: int, chunks: int) -> None:
    long = "dog " * words
    assert tokenizer.prompts([long])[0].shape == (1, chunks, 77) and tokenizer.chunk_count(long) == chunks
    cut, _ = tokenizer.prompts([long], 75)
    assert torch.equal(cut, tokenizer([long], 75))
    if words <= 225:
        assert torch.equal(tokenizer.prompts([long])[0], tokenizer([long], 75 * chunks))
