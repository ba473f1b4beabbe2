"""Throws bytes at a reader for as long as one likes, guided by what they reach in it, and keeps what gets through.

python -m tests.trust.fuzz READER FOLDER -max_total_time=SECONDS      (needs `pip install atheris`; see parsers.READERS)
"""

import io
import pickle
import sys
import traceback
import zipfile
from importlib import import_module
from pathlib import Path

atheris = import_module("atheris")  # not among the requirements, as only this program wants it

with atheris.instrument_imports(include=["library", "tomllib"]):
    from library import log
    from library.settings.fields import FILE_OPTIONS, HINTS, RULES
    from tests.trust import parsers

ROOT = Path(__file__).resolve().parent.parent.parent
MARKS = "= [[ ]] { } {{ }} | 2$$ ( ) [ ] :1.3) \\ , \" ' \\n true false null 0 -1 1e999 nan inf ~ .. / --n --w --d --l"
HEADER = (
    '{"__metadata__":{"ss_tag_frequency":"{\\"a\\":{\\"b\\":2}}"},"lora_unet_mid_block_attentions_0_proj_in.%s":'
    '{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"lora_unet_mid_block_attentions_0_proj_in.%s":'
    '{"dtype":"F16","shape":[2,2],"data_offsets":[16,24]}}'
)
RUN_NOTES = (
    b'{"ss_learning_rate":"0.0001","ss_optimizer":"torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))",'
    b'"ss_network_args":"{\\"conv_dim\\":4}","ss_dataset_dirs":"{\\"2_a\\":{\\"n_repeats\\":2}}",'
    b'"ss_max_train_steps":"100","ss_seed":"None","ss_resolution":"(512, 512)","ss_caption_dropout_rate":"0.1"}'
)
WORDS = """
    __metadata__ dtype F32 F16 BF16 I64 shape data_offsets lora_down.weight lora_up.weight lora_mid.weight alpha
    dora_scale hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 lokr_w1 lokr_w2 lokr_t2 on_input diff w_norm oft_blocks
    model.diffusion_model.input_blocks.0.0.weight first_stage_model. cond_stage_model.transformer. easel.structure
    image_path caption tags prompt subset negative_prompt width sample_steps scale general datasets subsets image_dir
"""


def seeds() -> dict[str, list[bytes]]:
    """Something whole of each kind to begin with."""
    configs = [path.read_bytes() for path in ROOT.glob("configs/*.toml")]
    tables = b"[general]\nflip_aug = true\n[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '.'\n"
    lines = "\n".join(f"--{name}=1" for name in RULES).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"state_dict": {"a": 1}}, protocol=2))
    return {
        "config": [*configs, tables],
        "json_config": [b'{"network_dim": 8, "a": {"seed": 1}}'],
        "dataset": [tables],
        "command_line": [lines, b"--learning_rate\n1e-4\n--network_args\na=b\nc=d"],
        "text_prompts": [b"a thing --n blurry --w 512 --h 768 --d 7 --s 30 --l 7.5 --ss euler_a\n# no\n"],
        "toml_prompts": [b"[prompt]\nwidth = 64\n[[prompt.subset]]\nprompt = 'a'\nscale = 7.5\n"],
        "json_prompts": [b'["a --w 64", {"prompt": "b", "scale": 3, "seed": 1}]'],
        "weights": [b"a (b:1.3) [c] ((d)) \\(e\\)"],
        "wildcards": [b"{a|b} {2$$c|{d|e}|f} {{g}}"],
        "caption": [b"a, b ||| {c|d}, e;;;f ||| g\nsecond line"],
        "metadata": [b'{"a.png": {"caption": "b", "tags": ["c", "d"]}}'],
        "metadata_lines": [b'{"image_path": "a.png", "caption": "b"}\n'],
        "safetensors": [parsers.with_payload((HEADER % ("lora_down.weight", "lora_up.weight")).encode())],
        "adapter": [(HEADER % pair).encode() for pair in (("lora_down.weight", "lora_up.weight"), ("diff", "alpha"))],
        "lora_metadata": [RUN_NOTES],
        "model": [(HEADER % ("weight", "bias")).replace("lora_unet", "model.diffusion_model").encode()],
        "pickle": [file.getvalue(), pickle.dumps({"state_dict": {}}, protocol=2)],
    }


def main() -> None:
    """Runs until libFuzzer has enough."""
    name, folder, *options = sys.argv[1:]
    place = Path(folder) / name
    corpus, found, work = (place / each for each in ("corpus", "found", "work"))
    for each in (corpus, found, work):
        each.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    names = [*RULES, *FILE_OPTIONS, *HINTS, *WORDS.split(), *MARKS.split()]
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in dict.fromkeys(names))
    (place / "words").write_text("".join(f'"{word}"\n' for word in quoted))
    log.show = lambda *_: None  # type: ignore[assignment]

    def try_one(data: bytes) -> None:
        log.warn.cache_clear()
        try:
            parsers.check(name, data, work)
        except (Exception, parsers.Hang, parsers.Wrote) as error:
            frames = [each for each in traceback.extract_tb(error.__traceback__) if "library" in each.filename]
            last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
            place = found / f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
            if not place.exists() or place.stat().st_size > len(data):
                place.write_bytes(data)

    told = [f"-dict={place / 'words'}", "-print_final_stats=1", "-max_len=4096", "-timeout=120", *options]
    atheris.Setup([sys.argv[0], *told, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
