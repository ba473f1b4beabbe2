#!/usr/bin/env bash
# Trains a LoRA on a folder of pictures, then draws base model and LoRA side by side.
#
# Edit the variables below, or set them for one run: train_data_dir=pictures lr=5e-5 bash train.sh
# Whatever stands behind `bash train.sh` goes to train_network.py as it is: bash train.sh --dry_run
# Empty means the trainer's own default. Paths count from this folder. As shipped it trains the demo.

# What to train, on which pictures
: "${pretrained_model=demo/model}"     # base model: diffusers folder, .safetensors or .ckpt file, hub id
: "${train_data_dir=demo/subject}"     # the pictures, with .txt captions of the same names
: "${reg_data_dir=}"                   # pictures of the class, for prior preservation; empty for none

# The LoRA
: "${network_module=networks.lora}"    # kind of network; plain LoRA
: "${network_weights=}"                # a LoRA file to go on from; empty to start anew
: "${network_dim=16}"                  # rank; 4 to 128, more is not always better
: "${network_alpha=16}"                # the LoRA works at alpha / rank of its strength
: "${conv_dim=8}"                      # rank in convolutions; empty to leave them, as most LoRAs do
: "${conv_alpha=8}"                    # the same for convolutions as network_alpha
: "${dropout=}"                        # part of the LoRA's values dropped in each step, such as 0.1; empty for none

# The length and size of the training
: "${resolution=128,128}"              # width,height in pixels; 512,512 for Stable Diffusion 1.5
: "${batch_size=4}"                    # pictures at a time; more need more memory
: "${gradient_accumulation_steps=1}"   # batches that make one step
: "${max_train_epoches=140}"           # how often each picture is seen
: "${max_train_steps=}"                # length in steps, where max_train_epoches is 0
: "${save_every_n_epochs=70}"          # a LoRA file every so many epochs; 0 for the last one only
: "${train_unet_only=0}"               # 1 to leave the text encoder as it is, which saves memory
: "${train_text_encoder_only=0}"       # 1 to leave the UNet as it is
: "${noise_offset=0.1}"                # helps very dark and very bright pictures; 0.05 to 0.1, 0 for none
: "${shuffle_caption=0}"               # 1 to shuffle the comma-separated tags of a caption
: "${keep_tokens=0}"                   # tags at the front that are never shuffled
: "${caption_dropout_rate=0.1}"        # part of the pictures that train without words, 0 to 1
: "${min_snr_gamma=1}"                 # evens out easy and hard noise levels; 5 is usual, 0 for none
: "${prior_loss_weight=1}"             # weight of the pictures in reg_data_dir

# Learning rates
: "${lr=1e-3}"                         # the rate where the next two are empty
: "${unet_lr=2e-3}"                    # the UNet's; 1e-4 is usual for a real model
: "${text_encoder_lr=5e-4}"            # the text encoder's; 5e-5 is usual for a real model
: "${lr_scheduler=cosine}"             # constant, linear, cosine, cosine_with_restarts, polynomial
: "${lr_warmup_steps=0.05}"            # steps in which the rate rises from 0; below 1 a part of the run
: "${lr_restart_cycles=1}"             # cycles of cosine_with_restarts
: "${optimizer_type=AdamW}"            # AdamW, AdamW8bit, Lion, Lion8bit, Adafactor, Prodigy, SGDNesterov

# What is written
: "${output_dir=output}"               # folder of the LoRA files
: "${output_name=demo}"                # their name
: "${save_model_as=safetensors}"       # safetensors for every UI, or diffusers for diffusers
: "${save_precision=fp16}"             # numbers of the LoRA file: fp32, fp16 or bf16
: "${logging_dir=logs}"                # folder of the TensorBoard logs
: "${log_tracker_name=}"               # name of the run in TensorBoard; empty for output_name
: "${sample_prompts=configs/demo_prompts.txt}" # what to draw, one prompt a line
: "${sample_every_n_epochs=70}"        # previews every so many epochs; 0 for none

# Stop and go on
: "${save_state=0}"                    # 1 to save with each file what is needed to go on from there
: "${resume=}"                         # such a -state folder to go on from, or auto for the newest

# Computing
: "${mixed_precision=no}"              # no, fp16 or bf16; fp16 or bf16 on a GPU
: "${seed=1337}"                       # the same seed draws the same noise
: "${enable_bucket=1}"                 # 1 to keep the shape of pictures that are not square
: "${min_bucket_reso=256}"             # their shortest side in pixels; never above the resolution
: "${max_bucket_reso=1024}"            # their longest side in pixels
: "${cache_latents=1}"                 # 1 to encode each picture only once
: "${max_token_length=75}"             # longest caption, in tokens: 75, 150 or 225
: "${caption_extension=.txt}"          # ending of the caption files
: "${clip_skip=0}"                     # 2 for models that read the last text layer but one; 0 for the last
: "${gradient_checkpointing=0}"        # 1 to save memory for some time
: "${multi_gpu=0}"                     # 1 to train on several GPUs
: "${num_processes=2}"                 # how many, where multi_gpu is 1

# ----------------------------------------------------------------------------------------------------

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. tools/setup_env.sh
arguments=()

# option NAME VALUE: the trainer's --NAME, unless the value is empty. Of 0 and 1 the trainer knows the meaning.
option() {
    if [ -n "$2" ]; then arguments+=("--$1=$2"); fi
}

option pretrained_model_name_or_path "$pretrained_model"
option train_data_dir "$train_data_dir"
option reg_data_dir "$reg_data_dir"

option network_module "$network_module"
option network_weights "$network_weights"
option network_dim "$network_dim"
option network_alpha "$network_alpha"
option conv_dim "$conv_dim"
option conv_alpha "$conv_alpha"
option network_dropout "$dropout"

option resolution "$resolution"
option train_batch_size "$batch_size"
option gradient_accumulation_steps "$gradient_accumulation_steps"
option max_train_epochs "$max_train_epoches"
option max_train_steps "$max_train_steps"
option save_every_n_epochs "$save_every_n_epochs"
option network_train_unet_only "$train_unet_only"
option network_train_text_encoder_only "$train_text_encoder_only"
option noise_offset "$noise_offset"
option shuffle_caption "$shuffle_caption"
option keep_tokens "$keep_tokens"
option caption_dropout_rate "$caption_dropout_rate"
option min_snr_gamma "$min_snr_gamma"
option prior_loss_weight "$prior_loss_weight"

option learning_rate "$lr"
option unet_lr "$unet_lr"
option text_encoder_lr "$text_encoder_lr"
option lr_scheduler "$lr_scheduler"
option lr_warmup_steps "$lr_warmup_steps"
option lr_scheduler_num_cycles "$lr_restart_cycles"
option optimizer_type "$optimizer_type"

option output_dir "$output_dir"
option output_name "$output_name"
option save_model_as "$save_model_as"
option save_precision "$save_precision"
option logging_dir "$logging_dir"
option log_tracker_name "$log_tracker_name"
option sample_prompts "$sample_prompts"
option sample_every_n_epochs "$sample_every_n_epochs"

option save_state "$save_state"
option resume "$resume"

option mixed_precision "$mixed_precision"
option seed "$seed"
option enable_bucket "$enable_bucket"
option min_bucket_reso "$min_bucket_reso"
option max_bucket_reso "$max_bucket_reso"
option cache_latents "$cache_latents"
option max_token_length "$max_token_length"
option caption_extension "$caption_extension"
option clip_skip "$clip_skip"
option gradient_checkpointing "$gradient_checkpointing"

launcher=("${python:?}")
if [ "$multi_gpu" = 1 ]; then
    launcher+=(-m accelerate.commands.launch --multi_gpu "--num_processes=$num_processes")
fi

lora=$output_dir/$output_name.safetensors
sheet=$output_dir/$output_name.png
started=$(mktemp)
trap 'rm -f "$started"' EXIT
"${launcher[@]}" train_network.py "${arguments[@]}" "$@"

# A dry run, or other names behind `bash train.sh`, leave no new file here and so nothing to draw.
if [ ! "$lora" -nt "$started" ]; then exit; fi
echo
echo "LoRA file:      $lora"
if [ -n "$sample_prompts" ]; then
    arguments=()
    option clip_skip "${clip_skip#0}"
    option max_token_length "$max_token_length"
    "$python" tools/generate.py --model "$pretrained_model" --lora "$lora" --compare \
        --prompts_file "$sample_prompts" --sheet "$sheet" --overwrite "${arguments[@]}"
    echo "Contact sheet:  $sheet (base model beside LoRA)"
fi
echo "TensorBoard:    $python -m tensorboard.main --logdir $logging_dir"
