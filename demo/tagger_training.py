"""The demo's tagger: a small network that names what a creature is made of, trained on ever new pictures."""

import csv
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from demo.training import Budget, load_checkpoint, rate_factor, save_checkpoint, set_rate
from demo.world import (
    BACKGROUNDS,
    BODY_COLORS,
    PATTERNS,
    RADII,
    SHAPES,
    SIZE,
    Creature,
    draw,
    draw_background,
    random_for,
    sample,
)

LEARNING_RATE = 3e-3
EMPTY = 0.05  # part of the pictures with ground alone
NAMED = 0.10  # part of the pictures that show a creature with a name; by chance it would be 0.06
BARS = 8  # pixels of two edges, at most, that are white like the bars around a picture that is no square
OPSET, IR_VERSION = 17, 8  # what any ONNX runtime since 2022 reads

RATING, GENERAL, CHARACTER = 9, 0, 4  # the categories of selected_tags.csv

# A creature with such looks has a name, whatever else it is.
CHARACTERS: dict[str, dict[str, str]] = {
    "baron_(easel)": {"color": "purple", "accessory": "hat"},
    "sea_star_(easel)": {"shape": "star-shaped", "color": "turquoise"},
}
SIZES = tuple(size for size in RADII if size != "normal")
PLACES = {"left": "on_the_left", "center": "in_the_center", "right": "on_the_right"}
EYES = {1: "one_eye", 2: "two_eyes"}

# What is judged, each with the tags that speak of it.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "rating": ("general", "sensitive", "questionable", "explicit"),
    "number": ("solo", "no_creature"),
    "shape": tuple(f"{shape}_body" for shape in SHAPES),
    "colour": tuple(f"{color}_body" for color in BODY_COLORS),
    "eyes": tuple(EYES.values()),
    "accessory": ("hat", "bow"),
    "size": SIZES,
    "place": tuple(PLACES.values()),
    "background": tuple(f"{color}_background" for color in BACKGROUNDS),
    "pattern": tuple(f"{pattern}_background" for pattern in PATTERNS),
    "character": tuple(CHARACTERS),
}
CATEGORIES = {"rating": RATING, "character": CHARACTER}
TAGS = [tag for tags in ATTRIBUTES.values() for tag in tags]


class Scene(NamedTuple):
    """A creature on its ground, or, if `empty`, the ground alone."""

    creature: Creature
    empty: bool


def sample_scene(rng: random.Random) -> Scene:
    """Mostly the world as it is; some grounds are empty, and creatures with names come more often."""
    creature, kind = sample(rng), rng.random()
    if kind < NAMED:
        looks = CHARACTERS[rng.choice(list(CHARACTERS))]
        creature = replace(creature, **looks)  # type: ignore[arg-type]
        if creature.background == creature.color:
            creature = replace(creature, background=rng.choice([c for c in BACKGROUNDS if c != creature.color]))
    return Scene(creature, empty=kind > 1 - EMPTY)


def draw_scene(scene: Scene) -> Image.Image:
    """The picture: RGB, SIZE x SIZE."""
    if scene.empty:
        return draw_background(scene.creature.background, scene.creature.pattern).finished()
    return draw(scene.creature)


def tags_of(scene: Scene) -> set[str]:
    """All that is true of a scene. Every picture of this world is fit for everyone."""
    creature = scene.creature
    tags = {"general", f"{creature.background}_background", f"{creature.pattern}_background"}
    if scene.empty:
        return tags | {"no_creature"}
    tags |= {"solo", f"{creature.shape}_body", f"{creature.color}_body"}
    tags |= {EYES[creature.eyes], PLACES[creature.place]}
    tags |= {creature.accessory, creature.size} - {"none", "normal"}
    names = {name for name, looks in CHARACTERS.items() if all(getattr(creature, k) == v for k, v in looks.items())}
    return tags | names


def weathered(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The picture as the web might bring it: brighter or darker, resized and back, with bars, as a JPEG."""
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.9, 1.1))
    if rng.random() < 0.3:
        side = rng.randrange(SIZE // 2, 2 * SIZE)
        picture = picture.resize((side, side), Image.Resampling.LANCZOS).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if rng.random() < 0.2:
        bar, white = rng.randrange(1, BARS + 1), Image.new("RGB", picture.size, "white")
        left, top = rng.choice(((bar, 0), (0, bar)))
        white.paste(picture.crop((left, top, SIZE - left, SIZE - top)), (left, top))
        picture = white
    if rng.random() < 0.3:
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=rng.randrange(40, 96))
        picture = Image.open(content).convert("RGB")
    return picture


def training_batch(seed: int, step: int, size: int) -> tuple[Tensor, Tensor]:
    """Pictures (size, SIZE, SIZE, 3), BGR in 0 to 255, and truths (size, tags) of 0 and 1; fixed by the arguments."""
    pictures, truths = [], []
    for index in range(step * size, (step + 1) * size):
        rng = random_for(seed, index, "tagger")
        scene = sample_scene(rng)
        pictures.append(np.asarray(weathered(draw_scene(scene), rng))[:, :, ::-1].astype(np.float32))
        truths.append([float(tag in tags_of(scene)) for tag in TAGS])
    return torch.from_numpy(np.stack(pictures)), torch.tensor(truths)


def build_tagger() -> nn.Sequential:
    """Logits (batch, tags) from (batch, 3, SIZE, SIZE) in [-1, 1]; what is where survives up to the linear layers."""
    layers: list[nn.Module] = []
    channels = 3
    for width, stride in ((16, 2), (32, 2), (32, 1), (64, 2), (64, 1), (64, 2), (48, 2)):
        size = 3 if layers else 5
        layers += [nn.Conv2d(channels, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    last = channels * (SIZE // 32) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last, 96), nn.ReLU(), nn.Linear(96, len(TAGS)))


def normalized(pictures: Tensor) -> Tensor:
    """(batch, height, width, 3) in 0 to 255 as (batch, 3, height, width) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2) / 127.5 - 1


def train_tagger(work: Path, budget: Budget, seed: int, batch: int = 64) -> tuple[nn.Sequential, Tensor]:
    """Trains, or goes on from `work`/tagger.pt, until the budget is spent.

    Returns the network and how many of its pictures had each tag, (tags,).
    """
    torch.manual_seed(seed)
    tagger, counts = build_tagger(), torch.zeros(len(TAGS))
    optimizer = torch.optim.AdamW(tagger.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    if state := load_checkpoint(work / "tagger.pt", budget):
        tagger.load_state_dict(state["tagger"])
        optimizer.load_state_dict(state["optimizer"])
        counts = state["counts"]
    tagger.train()
    while budget.fraction < 1.0:
        step = budget.done_steps
        set_rate(optimizer, LEARNING_RATE * rate_factor(budget))
        pictures, truths = training_batch(seed, step, batch)
        loss = F.binary_cross_entropy_with_logits(tagger(normalized(pictures)), truths)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        counts = counts + truths.sum(0)
        budget.tick()
        if step % 100 == 0 or budget.fraction >= 1.0:
            print(f"tagger step {step} {budget.done_seconds:.0f} s loss {loss.item():.4f}", flush=True)
        if step % 250 == 249 or budget.fraction >= 1.0:
            states = {"tagger": tagger.state_dict(), "optimizer": optimizer.state_dict(), "counts": counts}
            save_checkpoint(work / "tagger.pt", states, budget)
    return tagger.eval(), counts


def to_onnx(tagger: nn.Sequential) -> onnx.ModelProto:
    """The trained network as an ONNX model that takes BGR pictures of 0 to 255, NHWC, and gives probabilities.

    Each convolution takes up the batch norm after it. Written node by node: torch's own exporters differ from
    version to version in what they need and in what they write.
    """
    layers = list(tagger.eval())
    weights = {"scale": np.float32(1 / 127.5).reshape(1), "shift": np.float32([-1])}
    nodes = [
        helper.make_node("Transpose", ["input"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["channels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["hidden_0"]),
    ]
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            continue
        before, after = nodes[-1].output[0], f"hidden_{number + 1}"
        if isinstance(layer, nn.Conv2d):
            layer = fuse_conv_bn_eval(layer, layers[number + 1])  # type: ignore[arg-type]
        arrays = {f"{name}_{number}": value.detach().numpy() for name, value in layer.named_parameters()}
        weights |= arrays
        operator, facts = _operator(layer)
        nodes.append(helper.make_node(operator, [before, *arrays], [after], **facts))
    nodes.append(helper.make_node("Sigmoid", [nodes[-1].output[0]], ["output"]))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", SIZE, SIZE, 3])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", len(TAGS)])]
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tagger", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="easel")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def _operator(layer: nn.Module) -> tuple[str, dict[str, object]]:
    """ONNX's name for a layer, and what it must be told of it beside the weights."""
    if isinstance(layer, nn.Conv2d):
        return "Conv", {"strides": list(layer.stride), "pads": 2 * list(layer.padding)}
    if isinstance(layer, nn.Linear):
        return "Gemm", {"transB": 1}
    return ("Flatten" if isinstance(layer, nn.Flatten) else "Relu"), {}


def write_tags(path: Path, counts: Tensor) -> None:
    """selected_tags.csv, in the order of the network's outputs; ratings come first."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("tag_id", "name", "category", "count"))
        attributes = [attribute for attribute, tags in ATTRIBUTES.items() for _ in tags]
        for number, (tag, attribute) in enumerate(zip(TAGS, attributes, strict=True)):
            rows.writerow((number + 1, tag, CATEGORIES.get(attribute, GENERAL), int(counts[number])))
