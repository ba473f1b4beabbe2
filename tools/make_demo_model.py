"""Make the demo's base model: draw a picture world and train a small Stable Diffusion 1.5 on it from scratch.

python tools/make_demo_model.py --output demo/model --work demo_work --vae_minutes 33 --unet_minutes 83
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_arguments() -> argparse.Namespace:
    """The settings; started again with the same --work, an interrupted run goes on where it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo/model"), help="folder of the finished model")
    parser.add_argument("--work", type=Path, default=Path("demo_work"), help="folder of checkpoints and latents")
    parser.add_argument("--pictures", type=int, default=12000, help="pictures of the world to train on")
    parser.add_argument("--vae_minutes", type=float, default=33.0, help="time for the VAE")
    parser.add_argument("--unet_minutes", type=float, default=83.0, help="time for UNet and text encoder")
    parser.add_argument("--decoder_minutes", type=float, default=7.0, help="time for the VAE's decoder at the end")
    parser.add_argument("--vae_steps", type=int, help="steps for the VAE, instead of minutes")
    parser.add_argument("--unet_steps", type=int, help="steps for UNet and text encoder, instead of minutes")
    parser.add_argument("--decoder_steps", type=int, help="steps for the decoder, instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; by default a GPU where there is one")
    settings = parser.parse_args()
    if settings.pictures < 1:
        parser.error("--pictures must be 1 or more")
    if min(settings.vae_minutes, settings.unet_minutes, settings.decoder_minutes) <= 0:
        parser.error("--vae_minutes, --unet_minutes and --decoder_minutes must be above 0")
    return settings


def main() -> int:
    """Train the VAE, encode the world, train UNet and text encoder, write the folder as it grows."""
    settings = parse_arguments()

    import torch
    from torch import nn
    from transformers import CLIPTokenizer

    from demo.structure import write_model, write_tokenizer
    from demo.training import Budget
    from demo.unet_training import cache_world, train_unet
    from demo.vae_training import train_decoder, train_vae

    device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    work, seed = settings.work, settings.seed
    tokenizer_folder = work / "tokenizer"
    write_tokenizer(tokenizer_folder)
    vae_budget = Budget(60 * settings.vae_minutes, settings.vae_steps)
    vae = train_vae(work, vae_budget, seed, device).requires_grad_(False)
    world = cache_world(vae, work / "latents.pt", settings.pictures, seed, device)
    vae.register_to_config(scaling_factor=world.scaling_factor)
    print(f"scaling factor {world.scaling_factor}", flush=True)

    def snapshot(average: nn.ModuleDict) -> None:
        """Put the averaged weights of the moment into the output folder."""
        write_model(settings.output, vae, average["unet"], average["text_encoder"], tokenizer_folder)

    unet_budget = Budget(60 * settings.unet_minutes, settings.unet_steps)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    average = train_unet(world, tokenizer, work, unet_budget, seed, device, snapshot)
    snapshot(average)

    decoder_budget = Budget(60 * settings.decoder_minutes, settings.decoder_steps)
    train_decoder(work, vae, decoder_budget, seed, device)
    snapshot(average)
    steps = f"VAE {vae_budget.done_steps}, UNet {unet_budget.done_steps}, decoder {decoder_budget.done_steps} steps"
    print(f"{settings.output}: {steps}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
