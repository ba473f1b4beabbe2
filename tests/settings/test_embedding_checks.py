"""What a run with a new word must not say, and which of its files lie where."""

from pathlib import Path

import pytest

from library.settings.whole_checks import places

WORD = "--token_string=<toy> --init_word=toy"
MISTAKES = [
    ("--init_word=toy", "init_word is about a new word; name it with token_string, such as <my-creature>"),
    ("--num_vectors_per_token=2", "num_vectors_per_token is about a new word"),
    ("--embedding_lr=0.1", "embedding_lr is about a new word"),
    ("--ti_steps=5", "ti_steps is about a new word"),
    ("--embedding_only=true", "embedding_only is about a new word"),
    ("--token_string=<toy>", "token_string needs init_word, a known word that the new one begins as"),
    (f"{WORD} --embedding_lr=0", "embedding_lr is 0, so the new word would not be learned"),
    (f"{WORD} --network_train_unet_only=true --cache_text_encoder_outputs=true", "while a new word is learned"),
    (f"{WORD} --embedding_only=true --cache_text_encoder_outputs=true", "while a new word is learned"),
    (f"{WORD} --output_name=my-embedding", "output_name must not end in -embedding"),
    (f"{WORD} --ti_steps=1600", "ti_steps must be below max_train_steps = 1600, so that the network has steps too"),
    (f"{WORD} --embedding_only=true --ti_steps=5", "ti_steps is about a network that learns after the word"),
    (f"{WORD} --embedding_only=true --network_args=a=1", "network_args is about a network, but embedding_only"),
    (f"{WORD} --embedding_only=true --unet_lr=1", "unet_lr is about a network"),
    (f"{WORD} --embedding_only=true --learning_rate_te1=1", "learning_rate_te1 is about a network"),
    (f"{WORD} --init_word=a_<TOY>", "init_word 'a_<TOY>' has the new word <toy> in it, which has no meaning yet"),
    (f"{WORD} --embedding_only=true --network_train_unet_only=true", "network_train_unet_only is about a network"),
    (f"{WORD} --embedding_only=true --save_model_as=diffusers", "save_model_as is about a network's file"),
    (f"{WORD} --embedding_only=true --prior_preservation=self --class_prompt=x", "self keeps nothing"),
    (f"{WORD} --class_prompt=a_<TOY> --instance_prompt=x", "class_prompt has token_string in it"),
    (f"{WORD} --num_vectors_per_token=76", "num_vectors_per_token must be"),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES)
def test_each_mistake_has_its_sentence(complaints, words: str, told: str) -> None:
    said = complaints(*words.split())
    assert len(said) == 1 and told in said[0], said


@pytest.mark.parametrize(
    "words",
    [
        WORD,
        f"{WORD} --embedding_only=true",
        f"{WORD} --embedding_only=true --learning_rate=0",
        f"{WORD} --embedding_only=true --output_name=my-embedding",
        f"{WORD} --ti_steps=0.99 --network_train_unet_only=true",
        f"{WORD} --ti_steps=5000 --max_train_epochs=10",
    ],
)
def test_what_goes_together(complaints, words: str) -> None:
    assert complaints(*words.split()) == ()


def test_it_is_no_word_for_all_weights(tmp_path: Path) -> None:
    from library.errors import InputError
    from library.settings import read_settings

    argv = ["--pretrained_model_name_or_path=someone/sd15", "--train_data_dir=pictures", *WORD.split()]
    with pytest.raises(InputError, match="token_string cannot be set where all weights learn"):
        read_settings(argv, program="train_dreambooth")


def test_every_file_has_its_place(read) -> None:
    stem = Path("out/a.b")
    assert places(read(), stem) == [Path("out/a.b.safetensors")]
    both = [Path("out/a.b.safetensors"), Path("out/a.b-embedding.safetensors")]
    assert places(read(*WORD.split()), stem) == both
    alone = read(*WORD.split(), "--embedding_only=true")
    assert places(alone, stem) == [Path("out/a.b.safetensors"), Path("out/a.b.pt")]
