"""The settings of the network, the optimization, the files and the previews."""

from dataclasses import dataclass
from pathlib import Path

from library import samplers
from library.lookup import ADAPTERS, OPTIMIZERS, PRESETS
from library.settings.rules import option

PICKLE = "it is a pickle, which can run code when it is opened; safetensors loads in every UI"

LYCORIS, SD_OFT = "lycoris.kohya", "networks.oft"
OTHER_MODELS = "it is for models of another kind; Stable Diffusion 1.x, 2.x and XL are trained here"
OTHERS = ("lora_flux", "lora_sd3", "lora_lumina", "lora_anima", "lora_hunyuan_image", "oft_flux")
CONTROL = "control networks are not trained here"


@dataclass(frozen=True)
class NetworkFields:
    """The network: what is learned on top of the base model."""

    network_module: str | None = option(
        None,
        "The kind of adapter; unset means lora in train_network.py, and all weights in train_dreambooth.py.",
        choices=tuple(ADAPTERS),
        aliases={
            **{f"networks.{name}": name for name in ("lora", "lora_fa", "dylora", "loha", "lokr")},
            "locon": "lora",
            LYCORIS: LYCORIS,  # network_args say which
            SD_OFT: SD_OFT,  # whose rank and alpha mean other things
        },
        refusals={
            **{f"networks.{name}": OTHER_MODELS for name in OTHERS},
            **{f"networks.control_net_lllite{end}": CONTROL for end in ("", "_for_train")},
        },
    )
    network_dim: int = option(16, "The rank: the inner width of each pair of matrices.", low=1)
    network_alpha: float = option(
        16.0, "The adapter's strength is alpha / rank; 0 means the same as network_dim.", low=0
    )
    network_dropout: float | None = option(
        None, "The chance of each inner value to be dropped in a step.", low=0, high=0.99
    )
    conv_dim: int | None = option(
        None, "The rank of convolutions; where it is set, those of the UNet learn too.", low=1, zero_is_unset=True
    )
    conv_alpha: float | None = option(None, "The alpha of convolutions; unset means network_alpha.", low=0)
    network_preset: str | None = option(
        None,
        "Which layers learn; unset means attn-mlp, and with conv_dim full. The UNet's first and last layers never do.",
        choices=tuple(PRESETS),
    )
    network_layers: tuple[str, ...] = option(
        (), "Instead of it, regular expressions for names of layers, such as unet.*attn2 or text_encoder.*q_proj."
    )
    network_args: tuple[str, ...] = option((), "More options of the adapter, each as key=value.")
    network_weights: Path | None = option(None, "A file of the same kind to start from: a LoRA or a hypernetwork.")
    dim_from_weights: bool = option(False, "Takes rank and alpha from network_weights.")
    scale_weight_norms: float | None = option(
        None, "Scales matrices down whose product becomes longer than this, 1 as a rule.", low=0, zero_is_unset=True
    )
    network_train_unet_only: bool = option(False, "Trains the UNet's part alone.")
    network_train_text_encoder_only: bool = option(False, "Trains the text encoder's part alone.")


@dataclass(frozen=True)
class LearningFields:
    """Learning rates and the optimizer."""

    learning_rate: float = option(1e-4, "The learning rate of every part that has none of its own.", low=0)
    unet_lr: float | None = option(None, "The UNet's learning rate; unset means learning_rate.", low=0)
    text_encoder_lr: float | None = option(None, "The text encoder's learning rate; unset means learning_rate.", low=0)
    learning_rate_te1: float | None = option(
        None, "The first text encoder's own rate; unset means text_encoder_lr, or learning_rate_te.", low=0
    )
    learning_rate_te2: float | None = option(None, "The same of the second text encoder, which XL alone has.", low=0)
    optimizer_type: str = option(
        "AdamW",
        "The optimizer; also the dotted name of any class, such as torch.optim.RAdam.",
        choices=tuple(OPTIMIZERS),
        dotted=True,
    )
    optimizer_args: tuple[str, ...] = option((), "More options of the optimizer, each as key=value.")
    max_grad_norm: float = option(1.0, "Gradients longer than this are shortened to it; 0 leaves them.", low=0)


@dataclass(frozen=True)
class TrainingFields:
    """The length of the run and how it is computed."""

    max_train_steps: int = option(1600, "Steps of the run, where max_train_epochs is unset.", low=1)
    max_train_epochs: int | None = option(None, "Epochs of the run; beats max_train_steps.", low=1, zero_is_unset=True)
    max_steps_per_photo: int | None = option(
        None, "The run has at most this many steps for each picture.", low=1, zero_is_unset=True
    )
    gradient_accumulation_steps: int = option(1, "Batches that one step learns from.", low=1)
    gradient_checkpointing: bool = option(False, "Computes activations twice to save memory.")
    selective_checkpointing: bool = option(
        False,
        "Computes the UNet's norms and activations alone twice: two fifths less is kept, for hardly any time.",
    )
    memory: str = option(
        "as_set",
        "With auto, where the run is predicted to take more memory than is free: turns on selective_checkpointing, or "
        "else gradient_checkpointing, then takes the optimizer in 8 bits, then cuts batches that are accumulated, "
        "until it fits, and says so.",
        choices=("as_set", "auto"),
    )
    mixed_precision: str = option(
        "no", "The number format of the computation.", choices=("no", "fp16", "bf16"), aliases={"fp32": "no"}
    )
    fast_layers: bool = option(
        True,
        "Computes each LoRA layer in one piece, all layers that read the text or the time together, the model in the "
        "run's number format throughout, and on a CPU wide frozen layers from copies of their weights in the order of "
        "its kernels; false takes PEFT's layers and torch's autocast, as other trainers do.",
    )
    compile: str = option(
        "no",
        "Compiles the model when it first computes: its blocks one by one (regional), or the whole UNet (full), which "
        "takes longest. What cannot be compiled computes as before.",
        choices=("no", "regional", "full"),
        aliases={"false": "no", "true": "regional"},
    )
    channels_last: bool = option(
        False,
        "Keeps the UNet's pictures with their channels last, the order of a GPU's kernels for convolutions; worth a "
        "try in half precision with compile, and not measured yet.",
    )
    cuda_graphs: bool = option(
        False,
        "Records the forward and backward pass once for each size of batch and plays it back in one piece, which at "
        "small batches saves the time between a GPU's operations; for NVIDIA GPUs, and not measured on one yet.",
    )
    quantize_base: str = option(
        "no",
        "Keeps the UNet's wide linear layers in 8 bits (int8) or 4 (nf4) while a LoRA learns, for GPUs with little "
        "memory; each step takes longer.",
        choices=("no", "int8", "nf4"),
    )
    seed: int = option(42, "Where all random choices come from.", low=0, high=2**63 - 1)
    skip_nonfinite_steps: int = option(
        0,
        "So many steps in a row may be left out because their loss or gradients are not finite numbers; 0 stops at "
        "the first.",
        low=0,
    )
    dry_run: bool = option(False, "Checks everything, prints the plan and trains nothing.")


@dataclass(frozen=True)
class SavingFields:
    """The files that are written."""

    output_dir: Path = option(Path("output"), "The folder of the files that the run writes.")
    output_name: str = option("last", "The name of the files, without an ending.")
    save_model_as: str = option(
        "safetensors",
        "The layout: safetensors is one file for every UI, diffusers is PEFT's file or a whole model's folder, "
        "and both writes whole models in both. A hypernetwork is always a .pt file.",
        choices=("safetensors", "diffusers", "both"),
        aliases={"diffusers_safetensors": "diffusers"},
        refusals={"ckpt": PICKLE, "pt": PICKLE},
    )
    save_precision: str | None = option(
        None,
        "The number format of the file; unset means that of the trained weights, fp32 but for full_bf16.",
        choices=("fp32", "fp16", "bf16"),
        aliases={"float": "fp32"},
    )
    save_every_n_epochs: int | None = option(None, "Saves every so many epochs.", low=1, zero_is_unset=True)
    save_every_n_steps: int | None = option(None, "Saves every so many steps.", low=1, zero_is_unset=True)
    save_n_epoch_ratio: int | None = option(
        None, "Saves about this many times in the run; beats save_every_n_epochs.", low=1, zero_is_unset=True
    )
    save_last_n_epochs: int | None = option(
        None, "Keeps files of the last so many epochs and deletes older ones.", low=1, zero_is_unset=True
    )
    save_last_n_steps: int | None = option(
        None, "Keeps files of the last so many steps and deletes older ones.", low=1, zero_is_unset=True
    )
    save_last_n_epochs_state: int | None = option(
        None, "The same for states by epochs; unset means save_last_n_epochs.", low=1, zero_is_unset=True
    )
    save_last_n_steps_state: int | None = option(
        None, "The same for states by steps; unset means save_last_n_steps.", low=1, zero_is_unset=True
    )
    save_state: bool = option(False, "Saves with each file a state to resume from.")
    save_state_on_train_end: bool = option(False, "Saves a state at the end.")
    resume: str | None = option(None, "Goes on from this state folder, or with auto from the newest one.")
    training_comment: str | None = option(None, "A remark for the file's metadata.")
    no_metadata: bool = option(False, "Writes only the metadata that UIs need to load the file.")
    metadata_title: str | None = option(None, "The title in the metadata; unset means output_name.")
    metadata_author: str | None = option(None, "The author in the metadata.")
    metadata_description: str | None = option(None, "The description in the metadata.")
    metadata_license: str | None = option(None, "The licence in the metadata.")
    metadata_tags: str | None = option(None, "Tags in the metadata, separated by commas.")


@dataclass(frozen=True)
class PreviewFields:
    """Previews."""

    sample_prompts: Path | None = option(None, "A file of prompts, one a line; unset means the first captions.")
    sample_every_n_epochs: int | None = option(None, "Draws every so many epochs.", low=1, zero_is_unset=True)
    sample_every_n_steps: int | None = option(None, "Draws every so many steps.", low=1, zero_is_unset=True)
    sample_at_first: bool = option(False, "Draws before training too.")
    sample_sampler: str = option("ddim", "The sampler.", choices=samplers.NAMES, aliases=samplers.spellings())


@dataclass(frozen=True)
class LoggingFields:
    """Curves for TensorBoard."""

    logging_dir: Path = option(Path("logs"), "The folder of the TensorBoard logs.")
    log_prefix: str | None = option(None, "Words in front of the log folder's date.")
    log_tracker_name: str | None = option(None, "The name of the run in TensorBoard; unset means output_name.")
    log_every_n_steps: int = option(10, "Steps between two points of a curve.", low=1)
