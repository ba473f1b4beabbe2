"""Command lines of the small programs with one thing wrong in each; what is in braces: see `test_bad_programs`."""

NUMBERS = ("many", "nan", "-1", "1e400", "0x10", "9" * 400, "１２三")
OUT_OF_REACH = ("/proc/out{end}", "/dev/null/out{end}", "{text}/out{end}", "{circle}/out{end}", "{long}{end}")
NO_FILES = ("{gone}", "{empty}", "{text}", "{pipe}", "{socket}", "{zero}", "{circle}", "{long}", "a\x00b")
NO_FOLDERS = ("{gone}", "{empty}", "{text}", "{pipe}", "{socket}", "{zero}", "{circle}", "{long}", "a\x00b")
NO_DEVICE = "--device=toaster"

DRAW = "generate --model={model} --prompt=a --width=64 --height=64 --steps=1 --output={out}.png"
RESIZE = "resize_lora {lora} --dim=2 --output={out}.safetensors"
MERGE = "merge_lora --model={model} --lora {lora} --output={out}.safetensors"
EXTRACT = "extract_lora --base={model} --tuned={model} --dim=2 --output={out}.safetensors"
CONVERT = "convert_lora {lora} {out}.safetensors --to=diffusers"
MODEL = "convert_model {model} {out}.safetensors --to=safetensors"
GRID = "xyz_grid --model={model} --prompt=a --x=seed=1,2 --width=64 --height=64 --steps=1 --output={out}.png"
CROP = "crop_images {pictures} {out} --size=64"
EDIT = "edit_captions {pictures}"
CHECK = "check_dataset {pictures} --resolution=64"
MASKS = "make_masks {pictures} --method=alpha"
TAG = "tag_wd14 {pictures} --model={gone} --mode=overwrite"
BLIP = "caption_blip {pictures} --model={gone} --mode=overwrite"


def _with(base: str, option: str, values: tuple[str, ...], end: str = "") -> list[list[str]]:
    """The command line of `base` with each value for an option, or in the place of a word that `option` is."""
    words = base.split()
    place = next((n for n, word in enumerate(words) if word == option or word.startswith(f"{option}=")), None)
    lines = []
    for value in values:
        value = value.replace("{end}", end)
        word = value if not option.startswith("--") else f"{option}={value}"
        lines.append([*words, word] if place is None else [*words[:place], word, *words[place + 1 :]])
    return lines


def _numbers(base: str, *options: str) -> list[list[str]]:
    """Each option with what is no number for it, all kinds of that spread over them."""
    lines = []
    for place, option in enumerate(options):
        lines += _with(base, option, (NUMBERS[place % len(NUMBERS)], NUMBERS[(place + 3) % len(NUMBERS)]))
    return lines


def wrong_lines() -> list[list[str]]:
    """A program's name and its words."""
    lines = _numbers(DRAW, "--seed", "--steps", "--guidance", "--width", "--height", "--clip_skip", "--number")
    lines += _numbers(DRAW, "--batch_size", "--strength", "--max_token_length")
    lines += _with(DRAW, "--width", ("65", "0", "-64", "1000000000")) + _with(DRAW, "--sampler", ("none", "DDIM\x00"))
    lines += _with(DRAW, "--output", OUT_OF_REACH, ".png") + _with(DRAW, "--output", ("{out}.gif", "{empty}", ""))
    lines += _with(DRAW, "--model", NO_FILES) + _with(DRAW, "--vae", NO_FILES) + _with(DRAW, "--init", NO_FILES)
    lines += _with(DRAW, "--lora", ("{lora}:nan", "{lora}:inf", "{lora}:x", "{gone}", "{text}:1", ":", ""))
    lines += _with(DRAW, "--like", ("{gone}", "{text}", "{pipe}", "{picture}"))
    lines += _with(DRAW, "--prompts_file", ("{gone}", "{empty}", "{pipe}", "{zero}", "{picture}"))
    lines += _with(DRAW, "--embedding", ("{gone}", "{text}", "{lora}", "{lora}:a b", "{lora}:"))
    lines += _with(DRAW, "--strengths", ("", "a", "1,,2", "nan"))
    lines += _numbers(RESIZE, "--dim", "--conv_dim") + _with(RESIZE, NO_DEVICE, (NO_DEVICE,))
    for option in ("--ratio", "--frobenius", "--cumulative"):
        lines += _with(RESIZE, option, ("nan", "0", "-inf", "x"))
    lines += _with(RESIZE, "--output", OUT_OF_REACH, ".safetensors") + _with(RESIZE, "{lora}", NO_FILES)
    lines += _with(MERGE, "--lora", ("{lora}:nan", "{lora}:inf", "{gone}", "{lora}:1:x=2", "{lora}:1:IN99=1", "{text}"))
    lines += _with(MERGE, "--model", NO_FILES) + _with(MERGE, "--output", OUT_OF_REACH, ".safetensors")
    lines += _with(EXTRACT, "--tuned", NO_FILES) + _numbers(EXTRACT, "--dim", "--conv_dim", "--factor")
    lines += _with(EXTRACT, "--energy", ("nan", "0", "2", "x")) + _with(EXTRACT, "--clamp_quantile", ("nan", "2", "x"))
    lines += _with(EXTRACT, "--output", OUT_OF_REACH, ".safetensors")
    lines += _with(CONVERT, "{lora}", NO_FILES) + _with(CONVERT, "{out}.safetensors", OUT_OF_REACH, ".safetensors")
    lines += _with(CONVERT, "{out}.safetensors", ("{out}.ckpt", "{lora}")) + _with(CONVERT, "--to", ("", "Kohya", "x"))
    lines += _with(MODEL, "{model}", NO_FILES) + _with(MODEL, "{out}.safetensors", OUT_OF_REACH, ".safetensors")
    lines += _with(MODEL, "--vae", NO_FILES) + _with(MODEL, "--lora", ("{lora}:nan", "{gone}", "{text}"))
    lines += [["inspect_lora", each] for each in NO_FILES]
    lines += [["inspect_lora", "{lora}", f"--check={each}"] for each in NO_FILES]
    lines += [["inspect_lora", "{lora}", f"--json={each}"] for each in ("/proc/a.json", "{text}", "{empty}")]
    lines += _with(GRID, "--x", ("", "seed", "seed=", "=1", "sead=1", "seed=x", "steps=0", "width=65", "lora={gone}"))
    lines += _with(GRID, "--y", ("seed=3", "steps=nan", "guidance=x", "sampler=none")) + _with(GRID, "--z", ("a=b",))
    lines += _with(GRID, "--output", OUT_OF_REACH, ".png") + _numbers(GRID, "--seed", "--steps", "--width")
    lines += [["score_images", each, "--train={pictures}"] for each in NO_FOLDERS]
    lines += [["score_images", "{pictures}", f"--train={each}"] for each in NO_FOLDERS]
    lines += _with(CROP, "--size", ("0", "-64", "64,", "64,64,64", "x", "1e9", "99999999999", "１２三"))
    lines += _with(CROP, "--min_side", ("0", "nan", "9" * 30)) + _numbers(CROP, "--max_upscale", "--quality")
    lines += _with(CROP, "{pictures}", NO_FOLDERS) + _with(CROP, "{out}", OUT_OF_REACH) + _numbers(CROP, "--processes")
    lines += [[*base.split(), f"--processes={'9' * 400}"] for base in (CROP, CHECK)]
    lines += _with(CROP, "{out}", ("{pictures}", "{pictures}/.", "{text}", "{pipe}"))
    lines += _with(CROP, "--caption_extension", ("", "txt/", "../x", ".png", "a\x00b"))
    lines += _with(EDIT, "{pictures}", NO_FOLDERS) + _with(EDIT, "--caption_extension", ("", "/", "../a", ".png"))
    lines += _with(EDIT, "--text_regex", ("(=>a", "a", "a=>\\9", "*=>")) + _with(EDIT, "--replace", ("", "a", "=b"))
    lines += _with(EDIT, "--replace_regex", ("[=>a", "a=>\\g<")) + _with(EDIT, "--remove_regex", ("(", "(?z)"))
    lines += _with(EDIT, "--match", ("(", "*")) + _with(EDIT, "--prune_common", ("nan", "2", "-1", "x"))
    lines += _with(EDIT, "--sort", ("x",)) + _with(EDIT, "--keep_first", ("-1", "x", "nan")) + [[*EDIT.split()]]
    lines += _with(EDIT + " --table", "--json", ("/proc/a.json", "{empty}", "{text}/a.json"))
    lines += _with(CHECK, "{pictures}", NO_FOLDERS) + _with(CHECK, "--resolution", ("0", "x", "65", "64,x", "nan"))
    lines += _numbers(CHECK, "--min_bucket_reso", "--bucket_reso_steps", "--dataset_repeats", "--train_batch_size")
    lines += _with(CHECK, "--json", ("/proc/a.json", "{empty}")) + _with(CHECK, "--html", ("/proc/a.html", "{empty}"))
    lines += _numbers(CHECK, "--processes", "--max_token_length") + _with(CHECK, "--caption_extension", ("", "/"))
    lines += _with(MASKS, "{pictures}", NO_FOLDERS) + _with(MASKS, "--output", OUT_OF_REACH) + _numbers(MASKS, "--blur")
    lines += _numbers(MASKS, "--threshold", "--grow", "--shrink", "--min_value", "--batch_size", "--workers")
    lines += _with(MASKS + " --method=rembg", "--model", NO_FILES)
    lines += _with(TAG, "--model", NO_FOLDERS) + _numbers(TAG, "--thresh", "--batch_size", "--general_threshold")
    lines += _with(TAG, "{pictures}", NO_FOLDERS) + _with(TAG, "--output_json", ("/proc/a.json", "{empty}"))
    lines += _with(BLIP, "--model", NO_FOLDERS) + _with(BLIP, "{pictures}", NO_FOLDERS) + _with(BLIP, "--dtype", ("x",))
    lines += _numbers(BLIP, "--batch_size", "--num_beams", "--min_length", "--max_length", "--top_p", "--temperature")
    return lines


FILES = (
    "config",
    "dataset_config",
    "sample_prompts",
    "in_json",
    "network_weights",
    "vae",
    "pretrained_model_name_or_path",
)
NAMES = (".", "..", "a/b", "a\nb", "a\\b", "x" * 300, "ü" * 150, "a\x00b", "\udcff")
SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("output_name", NAMES),
    ("log_prefix", ("/a/b", "../a", "a/../../b", "x" * 300)),
    ("log_tracker_name", ("/a/b", "../a", "a/../../b", "x" * 300)),
    ("caption_extension", ("/", "../a", ".png", "a\x00b", "." * 300)),
    ("resume", ("{empty}", "{pictures}", "{text}", "{pipe}", "{socket}", "{circle}", "{long}", "{lora}", "Auto ")),
    ("train_data_dir", ("{lora}", "{pipe}", "{socket}", "{zero}", "{circle}", "{long}", "{model}")),
    ("reg_data_dir", ("{lora}", "{pipe}", "{socket}", "{zero}", "{circle}", "{long}", "{empty}")),
    ("output_dir", ("{lora}", "{lora}/a", "{pipe}", "{socket}", "{circle}", "{long}", "/sys/a", "/dev/full/a")),
    ("logging_dir", ("{lora}", "{pipe}/a", "{socket}", "{circle}/a", "{long}", "/sys/a")),
    ("cache_dir", ("{lora}", "{pipe}", "{socket}/a", "{circle}", "{long}", "/sys/a")),
    ("seed", ("1" + "0" * 30, "nan", "-1", "1e400", "½")),
    ("learning_rate", ("nan", "inf", "-1e-4", "1e400", "１e-4x", "1,5")),
    ("max_train_steps", ("0", "-1", "nan", "1e30", "9" * 400)),
    ("max_train_epochs", ("-1", "1e400", "9" * 400)),
    ("resolution", ("64,64,64", "9" * 30, "0", "-64", "64x64", "nan", "1000000000,1000000000")),
    ("train_batch_size", ("nan", "1" + "0" * 30, "-1", "1.5", "true")),
    ("gradient_accumulation_steps", ("9" * 30, "0", "inf")),
    ("noise_offset", ("nan", "-1", "inf", "a")),
    ("min_snr_gamma", ("nan", "-1", "inf")),
    ("max_grad_norm", ("nan", "-1", "a")),
    ("clip_skip", ("9" * 30, "-1", "1.5")),
    ("lr_scheduler", ("Cosine\x00", "cosine with restarts")),
    ("optimizer_type", ("torch.optim.Nothing", "os.system", "AdamW;", "..")),
    ("optimizer_args", ("eps=nan", "betas=1", "betas=(2,3)", "lr=1", "eps=__import__('os')", "=", "params=3")),
    ("max_token_length", ("76", "nan", "1e400")),
    ("caption_dropout_rate", ("nan", "2", "-0.1")),
    ("validation_split", ("nan", "1", "-1", "2")),
    ("keep_tokens", ("-1", "nan", "1.5")),
    ("min_bucket_reso", ("-64", "nan", "9" * 30)),
    ("mixed_precision", ("FP17", "half")),
    ("save_precision", ("fp8", "FP 16")),
    ("save_model_as", ("pt", "pickle", "SafeTensors/")),
)


def wrong_settings() -> list[tuple[str, str]]:
    """Settings of both trainers with values that nothing can be done with."""
    lines = [(name, value) for name in FILES for value in (*NO_FILES, "{picture}")]
    return lines + [(name, value) for name, values in SETTINGS for value in values]
