"""The defaults that the contracts fix for the model, the pictures and the captions."""

from library.settings import data_fields


def test_defaults() -> None:
    pictures, captions, buckets = (
        data_fields.PictureFields(),
        data_fields.CaptionFields(),
        data_fields.BucketFields(),
    )
    assert (pictures.resolution, pictures.train_batch_size, pictures.dataset_repeats) == ((512, 512), 1, 1)
    assert pictures.cache_latents and not pictures.flip_aug and not pictures.skip_unreadable
    assert not (pictures.color_aug or pictures.random_crop or pictures.masked_loss or pictures.alpha_mask)
    assert pictures.face_crop_aug_range is pictures.conditioning_data_dir is None
    assert (pictures.resize_interpolation, pictures.cache_variants) == ("lanczos", 4)
    assert not data_fields.ModelFields().no_half_vae
    assert (captions.caption_extension, captions.caption_separator, captions.keep_tokens) == (".txt", ",", 0)
    assert (captions.token_warmup_min, captions.token_warmup_step) == (1, 0)
    assert not (captions.enable_wildcard or captions.weighted_captions or captions.cache_text_encoder_outputs)
    assert captions.secondary_separator is captions.trigger_words is captions.in_json is None
    assert (buckets.min_bucket_reso, buckets.max_bucket_reso, buckets.bucket_reso_steps) == (256, 1024, 64)
    assert data_fields.ModelFields().max_token_length == 75
    assert data_fields.ValidationFields().validation_split == 0.0
