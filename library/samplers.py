"""The samplers by the names that people use, and how each is spelled elsewhere. Imports nothing heavy."""

import re

from library.lookup import SAMPLERS

# Method -> its name in AUTOMATIC1111 and its relatives, or one like those where they lack it.
LABELS = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_a": "DPM2 a",
    "dpmsolver++": "DPM++ 2M",
    "dpm++_2m_sde": "DPM++ 2M SDE",
    "dpm++_sde": "DPM++ SDE",
    "dpm++_2s_a": "DPM++ 2S a",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "unipc": "UniPC",
}

# What a scheduler of diffusers is told beside the model's own noise schedule.
OPTIONS: dict[str, dict[str, str]] = {
    "dpm++_2m_sde": {"algorithm_type": "sde-dpmsolver++"},
}

# Methods whose steps can lie as Karras et al. 2022 (arXiv 2206.00364, equation 5) lay them; the others have their own.
KARRAS = (
    *("lms", "euler", "heun", "dpm_2", "dpm_2_a", "dpmsolver++", "dpm++_2m_sde", "dpm++_sde", "dpm++_2s_a"),
    "unipc",
)
ENDING = "_karras"
NAMES = (*SAMPLERS, *(method + ENDING for method in KARRAS))

# Other words for a method, in small letters with _ between them.
SPELLINGS = {
    "plms": "pndm",
    "uni_pc": "unipc",
    "dpmsolver++_2m": "dpmsolver++",
    "dpmsolver++_2m_sde": "dpm++_2m_sde",
    "dpmsolver++_sde": "dpm++_sde",
    **{label.lower().replace(" ", "_"): method for method, label in LABELS.items()},
}


def find_sampler(words: str) -> str | None:
    """The name in NAMES of a sampler as people write it: "DPM++ 2M Karras", "k_euler_a", "dpmpp_2s_ancestral"."""
    name = re.sub(r"[\s_-]+", "_", words.strip().lower()).removeprefix("k_")
    name = name.replace("dpmpp", "dpm++").replace("dpm_solver", "dpmsolver").replace("ancestral", "a")
    method = name.removesuffix(ENDING)
    found = SPELLINGS.get(method, method) + name[len(method) :]
    return found if found in NAMES else None


def split_name(name: str) -> tuple[str, bool]:
    """The method behind a name of NAMES, and whether its steps lie as Karras laid them."""
    return name.removesuffix(ENDING), name.endswith(ENDING)


def spellings() -> dict[str, str]:
    """Names that lists of choices take beside NAMES: those of sd-scripts and of the web UIs."""
    labels = {method: LABELS[method] for method in SAMPLERS}
    labels |= {method + ENDING: f"{LABELS[method]} Karras" for method in KARRAS}
    return {label: name for name, label in labels.items()} | {f"k_{name}": name for name in NAMES}
