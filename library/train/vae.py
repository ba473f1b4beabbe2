"""The VAE of a run: loaded when something has to be encoded or drawn, and in float32 where half precision overflows."""

import torch
from torch import Tensor, nn

from library.device import Compute, free_memory
from library.log import warn
from library.models.family import Family
from library.settings import Settings


class Vae:
    """A family's VAE, in `dtype`. As long as nothing asks for it, its file is not even read."""

    def __init__(self, family: Family, dtype: torch.dtype, device: torch.device) -> None:
        self.family, self.dtype, self.device = family, dtype, device
        self._module: nn.Module | None = None

    @property
    def module(self) -> nn.Module:
        """The model itself, wherever it is just now."""
        if self._module is None:
            self._module = self.family.load_vae(self.dtype)
        return self._module

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, float32 on the device, of pixels (batch, 3, 8h, 8w) in [-1, 1] from anywhere.

        They are not finite where the VAE overflows in its number format.
        """
        module = self.module.to(self.device)
        with torch.no_grad():
            return self.family.encode_images(module, pixels.to(self.device))

    def encode_surely(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same; after an overflow in half precision everything is encoded in float32."""
        mean, logvar = self.encode(pixels)
        if self.dtype != torch.float32 and not (mean.isfinite().all() and logvar.isfinite().all()):
            self.use_float32()
            mean, logvar = self.encode(pixels)
        return mean, logvar

    def use_float32(self) -> None:
        """From now on in float32, from the file anew: what half precision has cut off is not in memory any more."""
        warn(f"the VAE overflows in {str(self.dtype).removeprefix('torch.')}; it goes on in float32.")
        self.leave_device()
        self._module, self.dtype = None, torch.float32

    def leave_device(self) -> None:
        """Makes room on the device; the next use brings the VAE back."""
        if self._module is not None:
            self._module.to("cpu")
            free_memory(self.device)


def open_vae(settings: Settings, family: Family, compute: Compute) -> Vae:
    """The VAE in the run's number format; on a CPU not in fp16, which is hundreds of times slower there."""
    slow = compute.dtype == torch.float16 and compute.device.type == "cpu"
    dtype = torch.float32 if settings.no_half_vae or slow else compute.dtype
    return Vae(family, dtype, compute.device)
