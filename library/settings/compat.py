"""Options of sd-scripts and lora-scripts that are not settings here: other names, refusals, warnings."""

from typing import Any

from library.lookup import find_name
from library.settings.convert import listed, shown

ALIASES = {"lr_restart_cycles": "lr_scheduler_num_cycles", "caption_extention": "caption_extension"}

# A switch that stands for a value of another setting.
SWITCHES = {
    "use_8bit_adam": ("optimizer_type", "AdamW8bit"),
    "torch_compile": ("compile", "regional"),
    "use_lion_optimizer": ("optimizer_type", "Lion"),
    "cache_text_encoder_outputs_to_disk": ("cache_text_encoder_outputs", True),
    "sdxl_no_half_vae": ("no_half_vae", True),
}

# Options that may only say what is done anyway.
ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "log_with": ("tensorboard",),
    "model_type": ("sd1.5", "sd15", "sd-1.5", "sdxl", "sd2"),
    "model_train_type": ("sd-lora", "sdxl-lora"),
    "network_multiplier": (1, 1.0, "1", "1.0"),
    "base_weights_multiplier": (1, 1.0, "1", "1.0"),
}

# Ways of computing, which the trainer chooses by itself.
WAYS_TEXT = """
    xformers sdpa mem_eff_attn diffusers_xformers lowram highvram persistent_data_loader_workers
    cache_latents_to_disk text_encoder_batch_size skip_cache_check cache_info dynamo_backend fp8_base
    fp8_base_unet full_fp16 disable_mmap_load_safetensors tokenizer_cache_dir ddp_timeout ddp_gradient_as_bucket_view
    ddp_static_graph console_log_level console_log_file console_log_simple log_config
    num_cpu_threads_per_process gpu_ids
"""
WAYS = frozenset(WAYS_TEXT.split())

REASONS = {
    "Stable Diffusion 1.x, 2.x and XL models are trained": "flux sd3 flow_matching weighting_scheme",
    "the loss is that of loss_type": "enable_contrastive custom_attributes",
    "the changes to the noise are noise_offset, multires_noise_iterations and ip_noise_gamma": "perlin_noise",
    "pictures come from train_data_dir or from the dataset tables": "dataset_class",
    "use dry_run to look at what would be trained": "debug_dataset output_config",
    "one network is trained on the base model as it is": "base_weights enable_base_weight",
    "a resumed run takes its step and epoch from the state": """initial_epoch initial_step
        skip_until_initial_step""",
    "the curves go to TensorBoard alone": "wandb_api_key use_wandb log_tracker_config",
    "write it into network_args, such as loraplus_lr_ratio=16": """loraplus_lr_ratio loraplus_unet_lr_ratio
        loraplus_text_encoder_lr_ratio""",
    "files stay on this machine": """huggingface_repo_id huggingface_repo_type huggingface_path_in_repo
        huggingface_token huggingface_repo_visibility save_state_to_huggingface resume_from_huggingface
        async_upload""",
    "this metadata is not written": """metadata_usage_hint metadata_thumbnail metadata_merged_from
        metadata_trigger_phrase metadata_preprocessor metadata_is_negative_embedding""",
    "several devices share the work by data parallelism alone": "deepspeed fsdp",
    "optimizer_type names every optimizer": """optimizer_schedulefree_wrapper schedulefree_wrapper_args
        fused_optimizer_groups""",
    "set caption_prefix to {a photo of a|a picture of a} and the new word, with enable_wildcard": """use_object_template
        use_style_template""",
    "a new word begins as init_word": "weights",
    "models of this size fit without it": "blocks_to_swap cpu_offload_checkpointing",
    "a configuration file cannot name another one": "config config_file",
}
UNSUPPORTED = {name: reason for reason, names in REASONS.items() for name in names.split()}

# Options that only tune another one, which is refused above or fixed: what they say changes nothing.
COMPANIONS_TEXT = """
    zero_stage wandb_run_name
    offload_optimizer_device offload_optimizer_nvme_path offload_param_device
    offload_param_nvme_path zero3_init_flag zero3_save_16bit_model
    fp16_master_weights_and_gradients mode_scale negative_sampling_method
    noise_strength contrastive_weight contrastive_warmup_steps
"""
COMPANIONS = frozenset(COMPANIONS_TEXT.split())

# What the pages of kohya_ss keep for themselves in the files that they write; sd-scripts passes over it too.
PAGES = frozenset(["epoch", "noise_offset_type", "lowvram"])

KNOWN = frozenset((*ALIASES, *SWITCHES, *ONLY_VALUES, *WAYS, *UNSUPPORTED, *COMPANIONS, *PAGES))

# What people of other trainers and of train.sh call a setting, where the spelling is too far to guess.
OTHER_WORDS = {
    "pretrained_model": "pretrained_model_name_or_path",
    "model": "pretrained_model_name_or_path",
    "base_model": "pretrained_model_name_or_path",
    "batch_size": "train_batch_size",
    "lr": "learning_rate",
    "text_encoder_lr1": "learning_rate_te1",
    "text_encoder_lr2": "learning_rate_te2",
    "rank": "network_dim",
    "dim": "network_dim",
    "lora_rank": "network_dim",
    "alpha": "network_alpha",
    "lora_alpha": "network_alpha",
    "epochs": "max_train_epochs",
    "steps": "max_train_steps",
    "optimizer": "optimizer_type",
    "scheduler": "lr_scheduler",
    "train_unet_only": "network_train_unet_only",
    "train_text_encoder_only": "network_train_text_encoder_only",
    "num_repeats": "dataset_repeats",
    "size": "resolution",
    "metadata_file": "in_json",
    "trigger_word": "trigger_words",
    "activation_tags": "trigger_words",
    "placeholder_token": "token_string",
    "initializer_token": "init_word",
    "num_vectors": "num_vectors_per_token",
    "train_text_encoder_ti_frac": "ti_steps",
    "instance_data_dir": "train_data_dir",
    "class_data_dir": "reg_data_dir",
    "with_prior_preservation": "prior_preservation",
}


def is_off(raw: Any) -> bool:
    """Whether an option so set is as good as left out."""
    if isinstance(raw, str):
        return raw.strip().lower() in ("", "0", "0.0", "false", "no", "none", "off")
    return not raw


def refusal(name: str, raw: Any) -> str | None:
    """Why the foreign option `name` cannot be followed, or None where it can or asks for nothing."""
    if is_off(raw):
        return None
    if name in UNSUPPORTED:
        return f"'{name}' is not supported: {UNSUPPORTED[name]}."
    allowed = ONLY_VALUES.get(name)
    if allowed and find_name(str(raw), [str(value) for value in allowed]) is None:
        return f"'{name}' is supported only as {listed(allowed[:1])}, not {shown(raw)}; leave it out."
    return None


def advice(name: str, raw: Any) -> str | None:
    """What to warn of where the foreign option `name` is read without an effect."""
    if is_off(raw):
        return None
    if name in WAYS:
        return f"'{name}' is not needed and changes nothing: the trainer chooses by itself how to compute."
    if name in PAGES:
        return f"'{name}' is kohya_ss' own and changes nothing, in sd-scripts neither."
    if name in COMPANIONS:
        return f"'{name}' changes nothing: it belongs to an option that is not supported."
    return None
