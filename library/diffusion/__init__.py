"""The mathematics of diffusion training, as functions of tensors."""
