"""Pictures count by the words of their captions."""

import pytest

from library.train.batches import open_batches
from library.train.caption_weights import caption_weigher
from library.train.data import encode_pictures, open_datasets
from library.train.plan import make_plan
from library.train.vae import open_vae

WEIGHTS = ["blurry=0.5", "red hat = 3", "b=.25"]


@pytest.mark.parametrize(
    ("caption", "weight"),
    [
        ("a dog", 1),
        ("a Blurry dog", 0.5),
        ("unblurry, blurrys", 1),
        ("a red hat, blurry", 1.5),
        ("b, blurry, b", 0.125),
        ("red, hat", 1),
    ],
)
def test_weights_of_words_are_multiplied(settings_of, caption: str, weight: float) -> None:
    assert caption_weigher(settings_of(caption_loss_weights=WEIGHTS))(caption) == weight
    assert caption_weigher(settings_of())(caption) == 1


def test_batches_have_them(settings_of, family, compute) -> None:
    def weights(**changes) -> dict[str, float]:
        settings = settings_of(train_batch_size=4, **changes)
        dataset = open_datasets(settings).train
        plan, vae = make_plan(settings, dataset, 1), open_vae(settings, family, compute)
        caches = encode_pictures(settings, [dataset], vae, compute)
        ((batch,),) = open_batches(settings, dataset, vae, caches, plan, compute).of_epoch(0)
        return dict(zip(batch.captions, batch.weights.tolist(), strict=True))

    plain, weighed = weights(), weights(caption_loss_weights=["shape 1=3", "shape 2=0"])
    assert set(plain.values()) == {0.25} and plain.keys() == weighed.keys()
    for caption, weight in weighed.items():
        assert weight == 0.25 * (3 if "shape 1" in caption else 0 if "shape 2" in caption else 1)
    assert sorted(weighed.values()) == [0, 0.25, 0.25, 0.75]
