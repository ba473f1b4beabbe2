"""Write captions for a folder of pictures with BLIP or BLIP-2, each beside its picture.

python preprocess/caption_blip.py pictures --model demo/captioner
python preprocess/caption_blip.py pictures --model Salesforce/blip-image-captioning-large \
    --prompt "a photography of" --trigger_word sks --forbidden_words "arafed,araffe"
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError, is_full_memory
from library.log import say
from library.prepare import captioner
from library.prepare.captioner import Decoding
from library.prepare.sidecars import MODES, check_extension
from library.prepare.walk import Outcome, find_pictures, finish
from library.prepare.words import Wording, split_phrases

MODE_HELP = "skip pictures that have a caption; overwrite it; or put the new one behind or before it"
FORCED_HELP = "phrases with commas between: of the beams the one that has most is taken, what it lacks is added"
DTYPE_HELP = "number format of the weights; by default fp16 on CUDA, else fp32"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself."""
    parser = argument_parser("Write captions for a folder of pictures with BLIP or BLIP-2, each beside its picture.")
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("input", metavar="INPUT", type=Path, help="folder of pictures")
    add("--model", required=True, help="folder or hub id of a BLIP or BLIP-2 captioning model")
    add("--recursive", action="store_true", help="look into the folders inside it too")
    add("--caption_extension", default=".txt", help="ending of the caption files")
    add("--mode", choices=MODES, default="skip", help=MODE_HELP)
    add("--batch_size", type=int, default=4, help="pictures that are looked at together")
    add("--num_beams", type=int, help="answers followed at once; by default 3, or 1 with --top_p below 1")
    add("--min_length", type=int, default=5, help="tokens that the answer has at least")
    add("--max_length", type=int, default=75, help="tokens that the answer has at most, the prompt not counted")
    add("--top_p", type=float, default=1.0, help="below 1: words are drawn from this part of the probability")
    add("--temperature", type=float, default=1.0, help="with --top_p: above 1 draws unlikelier words more often")
    add("--seed", type=int, default=0, help="with --top_p: the same seed draws the same captions")
    add("--repetition_penalty", type=float, default=1.0, help="above 1 makes words rarer that were said already")
    add("--prompt", default="", help="the words that the caption begins with and goes on from")
    add("--prefix", default="", help="written before the caption, unseen by the model")
    add("--suffix", default="", help="written behind the caption")
    add("--trigger_word", default="", help="written before everything, with a comma, unless it is there already")
    add("--forced_words", type=split_phrases, default="", help=FORCED_HELP)
    add("--forbidden_words", type=split_phrases, default="", help="phrases with commas between that are not said")
    add("--remove_repetition", action=switch, default=True, help="cut phrases that repeat themselves at once")
    add("--dtype", choices=("fp32", "fp16", "bf16"), help=DTYPE_HELP)
    add("--device", help="cpu, cuda, cuda:1, mps; by default a GPU where there is one")
    add("--preview", type=int, metavar="N", help="show captions of the first N pictures and write nothing")
    return parser.parse_args(argv)


def decoding_of(settings: argparse.Namespace) -> Decoding:
    """How answers are found, with everything checked."""
    names = ("num_beams", "min_length", "max_length", "top_p", "temperature", "repetition_penalty", "prompt", "seed")
    given = {name: getattr(settings, name) for name in names}
    decoding = Decoding(**given, forbidden=settings.forbidden_words, forced=settings.forced_words)
    decoding.check()
    for name in ("batch_size", "preview"):
        number = getattr(settings, name)
        if number is not None and number < 1:
            raise InputError(f"--{name} is {number}; it must be 1 or more.")
    return decoding


def wording_of(settings: argparse.Namespace) -> Wording:
    """What becomes of the model's words."""
    texts = {name: getattr(settings, name).strip() for name in ("prefix", "suffix", "trigger_word")}
    return Wording(**texts, forced=settings.forced_words, forbidden=settings.forbidden_words)


def open_model(settings: argparse.Namespace, decoding: Decoding) -> captioner.Captioner:
    """The model, on the device and in the number format asked for."""
    from library.prepare.blip import DTYPES, open_blip, pick_device

    device = pick_device(settings.device)
    dtype = settings.dtype or ("fp16" if device.type == "cuda" else "fp32")
    return open_blip(settings.model, decoding, device, DTYPES[dtype])


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, open the model, and write each caption as soon as it is made."""
    settings = parse_arguments(argv)
    decoding, extension = decoding_of(settings), check_extension(settings.caption_extension)
    pictures = find_pictures(settings.input, settings.recursive)
    outcome = Outcome()
    if settings.preview:
        chosen = pictures[: settings.preview]
    else:
        chosen = captioner.choose_pictures(pictures, settings.mode, extension, outcome)
    if not chosen:
        return finish(outcome, "captions")
    model = open_model(settings, decoding)
    work = (settings.input, model, wording_of(settings), settings.batch_size, not settings.remove_repetition)
    captions = captioner.caption_pictures(chosen, *work)
    try:
        if settings.preview:
            captioner.show_captions(captions, outcome)
            return finish(outcome, "captions")
        looped = captioner.write_captions(captions, settings.mode, extension, outcome)
    except RuntimeError as error:
        if is_full_memory(error):
            raise InputError("the memory is full; lower --batch_size or --num_beams, or give --dtype bf16.") from error
        raise
    if looped:
        names = ", ".join(path.name for path in looped)
        say(f"loops were cut out of {len(looped)} captions (--no-remove_repetition leaves them): {names}")
    return finish(outcome, "captions")


if __name__ == "__main__":
    run_program(main)
