"""TVAE, the tabular variational autoencoder that papers compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmbench.api import param

from ._sdv import SdvGenerator, card


@dataclass
class TVAE(SdvGenerator):
    """sdv's TVAE. With fewer than ``batch_size`` rows an epoch is a single step."""

    card = card("tabular VAE", "Xu et al. 2019, Modeling tabular data using conditional GAN")
    synthesizer_class = "TVAESynthesizer"

    epochs: int = param(300, "passes over the training rows", minimum=1)
    batch_size: int = param(500, "rows a step", minimum=2)

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of sdv's synthesizer."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "verbose": False}
