"""Training the demo's captioner: a small BLIP that says which creature a picture of the world shows."""

import os
import random
import shutil
import string
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from demo.captions import full_caption
from demo.training import Budget, load_checkpoint, rate_factor, save_checkpoint, set_rate
from demo.world import ACCESSORIES, BODY_COLORS, PATTERNS, PLACES, RADII, SHAPES, draw, random_for, sample

IMAGE_SIZE, PATCH = 64, 8  # pixels
WIDTH, HEADS = 128, 4
VISION_LAYERS, TEXT_LAYERS = 4, 2
LONGEST = 128  # tokens
LEARNING_RATE = 1.5e-3
BATCH = 64  # pictures
SAVE_EVERY = 500  # steps

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
OTHER_WORDS = ("a", "an", "background", "creature", "eye", "eyes", "in", "medium", "on", "one", "the", "two", "with")


def vocabulary() -> list[str]:
    """Marks, the words of the world's captions, and letters and signs of which any other text can be put together."""
    lists = (SHAPES, BODY_COLORS, ACCESSORIES, RADII, PLACES, PATTERNS, ("white", "and", *OTHER_WORDS))
    words = {part for words in lists for word in words for part in word.split("-")}
    signs = [*string.digits, *string.ascii_lowercase]
    singles = dict.fromkeys([*string.punctuation, *signs])
    return [*SPECIAL, *singles, *(f"##{sign}" for sign in signs), *sorted(words - {*singles})]


def build_processor() -> BlipProcessor:
    """Pictures as BLIP wants them, only smaller, and WordPiece over the world's own words."""
    words = {word: number for number, word in enumerate(vocabulary())}
    tokenizer = BertTokenizer(vocab=words, extra_special_tokens=["[DEC]"], model_max_length=LONGEST)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return BlipProcessor(BlipImageProcessor(size=size), tokenizer)


def build_captioner() -> BlipForConditionalGeneration:
    """BLIP with few channels and layers; as there, captions begin with [DEC] and end with [SEP]."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    pixels = {"image_size": IMAGE_SIZE, "patch_size": PATCH}
    # BLIP's own deviation of fresh weights, 1e-10, is for models that are filled from a file.
    vision = {**sizes, **pixels, "num_hidden_layers": VISION_LAYERS, "initializer_range": 0.02}
    text = {
        **sizes,
        "num_hidden_layers": TEXT_LAYERS,
        "encoder_hidden_size": WIDTH,
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": LONGEST,
        "bos_token_id": SPECIAL.index("[DEC]"),
        "eos_token_id": SPECIAL.index("[SEP]"),
        "sep_token_id": SPECIAL.index("[SEP]"),
        "pad_token_id": SPECIAL.index("[PAD]"),
    }
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))


def draw_world(count: int, seed: int, processor: BlipProcessor) -> Tensor:
    """The first pictures of the world, shrunk as the processor shrinks them: (count, 3, height, width) in 0 to 255."""
    pictures = torch.empty(count, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    for index in range(count):
        picture = draw(sample(random_for(seed, index)))
        small = processor.image_processor(picture, do_rescale=False, do_normalize=False, return_tensors="pt")
        pictures[index] = small.pixel_values[0].round().clamp(0, 255).to(torch.uint8)
    return pictures


def normalized(pictures: Tensor, processor: BlipProcessor) -> Tensor:
    """Pixels of 0 to 255 with the mean and deviation that the processor gives them."""
    settings = processor.image_processor
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.image_mean, settings.image_std))
    return (pictures / 255 - mean) / std


def training_batch(world: Tensor, processor: BlipProcessor, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Pixels (BATCH, 3, height, width) and token ids (BATCH, length), padded; a function of its arguments only."""
    rng = random.Random(f"captioner-{seed}-{step}")
    chosen = [rng.randrange(len(world)) for _ in range(BATCH)]
    texts = [full_caption(sample(random_for(seed, index)), rng) for index in chosen]
    ids = processor.tokenizer(texts, padding=True, return_tensors="pt").input_ids
    ids[:, 0] = SPECIAL.index("[DEC]")
    return normalized(world[chosen], processor), ids


def caption_loss(model: BlipForConditionalGeneration, pixels: Tensor, ids: Tensor) -> Tensor:
    """Cross entropy of every next token, the padding left out."""
    padding = ids == SPECIAL.index("[PAD]")
    labels = ids.masked_fill(padding, -100)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        loss: Tensor = model(pixels, ids, attention_mask=(~padding).long(), labels=labels).loss
    return loss


def train_captioner(work: Path, budget: Budget, seed: int, pictures: int) -> BlipForConditionalGeneration:
    """Train, or go on from `work`/captioner.pt, until the budget is spent; on the CPU."""
    torch.manual_seed(seed)
    processor, model = build_processor(), build_captioner()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    path = work / "captioner.pt"
    if state := load_checkpoint(path, budget):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    world = draw_world(pictures, seed, processor) if budget.fraction < 1.0 else torch.empty(0)
    while budget.fraction < 1.0:
        step = budget.done_steps
        set_rate(optimizer, LEARNING_RATE * rate_factor(budget))
        loss = caption_loss(model, *training_batch(world, processor, seed, step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        budget.tick()
        if step % 100 == 0 or budget.fraction >= 1.0:
            print(f"captioner step {step} {budget.done_seconds:.0f} s loss {loss.item():.4f}", flush=True)
        if budget.done_steps % SAVE_EVERY == 0 or budget.fraction >= 1.0:
            save_checkpoint(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, budget)
    return model.eval()


def write_captioner(folder: Path, model: BlipForConditionalGeneration) -> None:
    """Write the folder in transformers' layout, fp16, or nothing; a README.md in the old folder is kept."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    copy = build_captioner()
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(new)
    processor = build_processor()
    processor.save_pretrained(new)
    processor.image_processor.save_pretrained(new)
    (new / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        shutil.copy(folder / "README.md", new / "README.md")
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)
