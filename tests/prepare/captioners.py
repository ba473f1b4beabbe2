"""BLIP and BLIP-2 with tiny random weights, as folders in transformers' layout."""

import string
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    GPT2Tokenizer,
)

SIDE = 16  # pixels
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZES, "image_size": SIDE, "patch_size": 8, "initializer_range": 0.5}
WORDS = ("a", "red", "cat", "dog", "and", "photo", "of", "hat", "with")
QUERIES = 3


def write_blip(folder: Path) -> Path:
    """A BLIP whose answers depend on the picture."""
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
    singles = [*string.ascii_lowercase[1:], *(f"##{sign}" for sign in string.ascii_lowercase), ",", "-"]
    words = {word: number for number, word in enumerate((*marks, *WORDS, *singles))}
    tokenizer = BertTokenizer(vocab=words, extra_special_tokens=["[DEC]"])
    ids = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**SIZES, **ids, "vocab_size": len(words), "encoder_hidden_size": 32, "max_position_embeddings": 64}
    config = BlipConfig(text_config={**text, "initializer_range": 0.5}, vision_config=VISION)
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(_pictures(), tokenizer).save_pretrained(folder)
    return folder


def write_blip2(folder: Path, language: str) -> Path:
    """A BLIP-2 over OPT ("opt") or T5 ("t5")."""
    tokenizer = _byte_tokenizer()
    processor = Blip2Processor(_pictures(), tokenizer, num_query_tokens=QUERIES)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": len(tokenizer)}
    text: dict[str, object] = {"model_type": language, **ids}
    if language == "opt":
        text |= {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"word_embed_proj_dim": 32, "max_position_embeddings": 64, "init_std": 0.5}
    else:
        text |= {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}
        text |= {"decoder_start_token_id": 0, "initializer_factor": 5.0}
    config = Blip2Config(
        text_config=text,
        vision_config=VISION,
        qformer_config={**SIZES, "vocab_size": 40, "encoder_hidden_size": 32, "initializer_range": 0.5},
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _pictures() -> BlipImageProcessor:
    return BlipImageProcessor(size={"height": SIDE, "width": SIDE})


def _byte_tokenizer() -> GPT2Tokenizer:
    """Letters and blanks; "Ġ" is how GPT-2 writes a blank."""
    signs = ["<pad>", "<s>", "</s>", "<unk>", "Ġ", *string.ascii_lowercase, "ca", "cat", "Ġcat", "re", "red", "Ġred"]
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("r", "e"), ("re", "d"), ("Ġ", "red")]
    words = {sign: number for number, sign in enumerate(signs)}
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return GPT2Tokenizer(vocab=words, merges=merges, **marks)
