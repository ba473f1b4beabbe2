"""Which UI loads an adapter file whole, in part, or not at all, and why; as found by running their loaders.

The versions looked at: AUTOMATIC1111 1.10, Forge and ComfyUI of 2025, InvokeAI of 2026, diffusers 0.42, Fooocus 2.5.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from library.adapters.anatomy import Module
from library.adapters.hypernetwork_files import HypernetworkFile
from library.adapters.inspection import Inspection

WHOLE, PARTLY, NOT = "whole", "in part", "not"
FEW = 12  # unmatched keys that Forge and Fooocus put up with
QKVO = ("q_proj", "k_proj", "v_proj", "out_proj")
WIDTHS = (768, 1024, 1280, 2048)  # by which InvokeAI knows a family
SIGNS = ("attn2.to_k", "attn2.to_v", "time_emb_proj")
PEFT_NAMES = "it does not know the names of PEFT"


@dataclass(frozen=True)
class Verdict:
    """Whether a UI loads a file, and what stands against it."""

    ui: str
    state: str
    reasons: tuple[str, ...]


Findings = Iterator[tuple[str, str]]


def verdicts(look: Inspection) -> list[Verdict]:
    """What each UI makes of a file."""
    if look.hypernetwork:
        return _of_hypernetwork(look.hypernetwork)
    rules = {
        "AUTOMATIC1111": _automatic,
        "Forge": _forge,
        "ComfyUI": _comfy,
        "InvokeAI": _invoke,
        "diffusers": _diffusers,
        "Fooocus": _fooocus,
    }
    result = []
    for ui, rule in rules.items():
        found = [*_everywhere(look), *rule(look)]
        states = {state for state, _ in found}
        state = NOT if NOT in states else PARTLY if states else WHOLE
        reasons = dict.fromkeys(reason for each, reason in found if each == state)
        result.append(Verdict(ui, state, tuple(reasons)))
    return result


def _of_hypernetwork(found: HypernetworkFile) -> list[Verdict]:
    reason = "its last layer differs there, for it is computed with norms"
    comfy = Verdict("ComfyUI", PARTLY, (reason,)) if found.form.layer_norm else Verdict("ComfyUI", WHOLE, ())
    strangers = ("Forge", "InvokeAI", "diffusers", "Fooocus")
    none = [Verdict(ui, NOT, ("it has no hypernetworks",)) for ui in strangers]
    return [Verdict("AUTOMATIC1111", WHOLE, ()), none[0], comfy, *none[1:]]


def _everywhere(look: Inspection) -> Findings:
    if look.layout == "unknown" or len(look.strangers) == len(look.modules):
        yield NOT, "its layers are not those of Stable Diffusion 1, 2 or XL"
    elif any(module.kind in ("unknown", "glora", "oft") for module in look.modules):
        yield PARTLY, "it holds modules of a kind that was not tried here"


def _automatic(look: Inspection) -> Findings:
    if look.layout == "diffusers":
        yield NOT, PEFT_NAMES
    if look.strangers:
        yield PARTLY, f"{len(look.strangers)} layers are unknown to it"
    if look.family == "sdxl" and _has_diffusers_names(look) and _named(look, "add_embedding", "up_blocks.0.upsamplers"):
        yield PARTLY, "it does not match XL's layers outside the blocks by diffusers' names"
    if any(each.kind == "norm" and "b_norm" not in each.leaves for each in look.modules):
        yield NOT, "it refuses w_norm without b_norm"
    if any(each.kind == "full" and "diff" not in each.leaves for each in look.modules):
        yield NOT, "it refuses diff_b without diff"
    if any(each.kind == "ia3" and len(_weight(each)) == 4 for each in look.modules):
        yield PARTLY, "it skips (IA)^3 on convolutions"
    if _named(look, "text_encoder_2.text_projection"):
        yield PARTLY, "it has no text_projection"
    if look.family in ("sd2", "sdxl") and _lacks_qkvo(look):
        yield PARTLY, "it changes the attention of OpenCLIP only where all of q, k, v and out are in the file"
    yield from _wrong_dora(look)


def _forge(look: Inspection) -> Findings:
    if look.layout == "diffusers":
        yield NOT, PEFT_NAMES
    if _unmatched(look) > FEW:
        yield NOT, f"{_unmatched(look)} keys fit nothing, and it refuses files with more than {FEW} of these"
    elif _unmatched(look):
        yield PARTLY, f"{_unmatched(look)} keys fit nothing"
    yield from _tucker(look, NOT)
    yield from _wrong_dora(look)


def _comfy(look: Inspection) -> Findings:
    if look.layout == "diffusers":
        yield NOT, PEFT_NAMES
    if _unmatched(look):
        is_all = _unmatched(look) == sum(len(each.leaves) for each in look.modules)
        yield NOT if is_all else PARTLY, f"{_unmatched(look)} keys are named and not loaded"
    yield from _tucker(look, PARTLY)
    yield from _wrong_dora(look)


def _invoke(look: Inspection) -> Findings:
    if look.layout == "diffusers":
        yield NOT, PEFT_NAMES
    if look.layout == "original":
        state = PARTLY if _named(look, "text_encoder") else NOT
        yield state, "it does not know these names of the UNet of SD 1 and 2"
    if any(each.kind in ("loha", "lokr") and each.magnitude for each in look.modules):
        yield NOT, "it fails at DoRA on LoHa and LoKr"
    if not _tells_width(look):
        yield NOT, "it knows the base model by the width of its text or its steps, and finds none that is usual"
    is_small = look.family in ("sd1", "sd2")
    if is_small and any("lokr_w2_b" in each.leaves for each in look.modules):
        yield NOT, "it does not recognise LoKr with a decomposed second factor for SD 1 and 2"
    if any(each.kind == "ia3" and len(_weight(each)) == 4 for each in look.modules):
        yield NOT, "it fails at (IA)^3 on convolutions"
    starts = ("lora_te1_", "lora_te2_") if is_small else ("lora_te_",)
    if any(each.stem.startswith(starts) for each in look.modules):
        yield PARTLY, f"it ignores text encoders under the name {starts[0]}"
    if look.strangers:
        yield PARTLY, f"{len(look.strangers)} layers are unknown to it"
    yield from _wrong_dora(look)


def _diffusers(look: Inspection) -> Findings:
    kinds = {each.kind for each in look.modules}
    if kinds != {"lora"}:
        yield NOT, "it loads plain LoRA only"
    if any("lora_mid.weight" in each.leaves for each in look.modules):
        yield NOT, "it does not know lora_mid"
    if look.layout == "original":
        yield NOT, "it does not know these names of the UNet of SD 1 and 2"
    if any(each.magnitude for each in look.modules):
        yield PARTLY, "it leaves DoRA's magnitudes out"
    if look.strangers:
        yield NOT, f"it refuses the file for {len(look.strangers)} layers that it does not know"
    if look.layout != "diffusers":
        if len({each.alpha for each in look.modules}) > 1:
            yield PARTLY, "it mixes up alphas that differ within a file, so that strengths are wrong"
        if look.family == "sdxl" and _has_diffusers_names(look) and _named(look, "add_embedding"):
            yield PARTLY, "it does not match add_embedding"
    for module in look.modules:
        name = look.dotted.get(module.stem, "")
        is_projection = name.endswith((".proj_in", ".proj_out")) and ".attentions." in name
        if module.kind == "lora" and module.shape and is_projection:
            dimensions = 4 if look.family == "sd1" else 2
            if look.family and len(module.shape) != dimensions:
                yield NOT, f"{module.stem} has {len(module.shape)} dimensions where the model has {dimensions}"
                return


def _fooocus(look: Inspection) -> Findings:
    if look.family is not None and look.family != "sdxl":
        yield NOT, "it is for Stable Diffusion XL alone"
    if look.layout == "diffusers":
        yield NOT, PEFT_NAMES
    if any(each.magnitude for each in look.modules):
        yield NOT, "it skips files with DoRA"
    if _unmatched(look) > FEW:
        yield NOT, f"{_unmatched(look)} keys fit nothing, and it skips files with more than {FEW} of these"
    elif _unmatched(look):
        yield PARTLY, f"{_unmatched(look)} keys fit nothing"
    yield from _tucker(look, PARTLY)


def _unmatched(look: Inspection) -> int:
    """Keys that ComfyUI and those that share its tables match with nothing."""
    unmatched = {id(each): len(each.leaves) for each in look.strangers}
    for module in look.modules:
        is_text = look.dotted.get(module.stem, "").startswith("text_encoder")
        if module.kind == "ia3" or module.kind == "norm" and is_text:
            unmatched[id(module)] = len(module.leaves)
    return sum(unmatched.values())


def _tucker(look: Inspection, state: str) -> Findings:
    if any("lokr_t2" in each.leaves for each in look.modules):
        yield state, "it fails at lokr_t2"


def _wrong_dora(look: Inspection) -> Findings:
    wrong = [each for each in look.modules if each.magnitude and each.magnitude[0] != 1]
    if wrong:
        yield PARTLY, "it computes DoRA's magnitudes of outputs wrong; those of inputs are right"


def _tells_width(look: Inspection) -> bool:
    """Whether a layer that reads text, or is told the step, has the width that one of the families has."""
    if look.family == "sdxl" and any(".transformer_blocks.2." in name for name in look.dotted.values()):
        return True
    for module in look.modules:
        name = look.dotted.get(module.stem, "")
        is_sign = name.endswith(SIGNS) or ".self_attn." in name
        if is_sign and module.shape and len(module.shape) > 1 and module.shape[1] in WIDTHS:
            return True
    return False


def _lacks_qkvo(look: Inspection) -> bool:
    """Whether a layer of OpenCLIP's has some of q, k, v and out, and not all."""
    part = "text_encoder." if look.family == "sd2" else "text_encoder_2."
    groups: dict[str, set[str]] = {}
    for name in look.dotted.values():
        if name.startswith(part) and ".self_attn." in name:
            layer, _, leaf = name.rpartition(".")
            groups.setdefault(layer, set()).add(leaf)
    return any(found != set(QKVO) for found in groups.values())


def _named(look: Inspection, *words: str) -> bool:
    return any(word in name for name in look.dotted.values() for word in words)


def _has_diffusers_names(look: Inspection) -> bool:
    """Whether the UNet's layers go by diffusers' names in kohya's form."""
    return any(each.stem.startswith(("lora_unet_down_blocks", "lora_unet_up_blocks")) for each in look.modules)


def _weight(module: Module) -> tuple[int, ...]:
    """The shape of a module's weight, as far as known."""
    return module.shape or ()
