"""CTGAN, the conditional tabular GAN that papers compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmbench.api import param

from ._sdv import SdvGenerator, card


@dataclass
class CTGAN(SdvGenerator):
    """sdv's CTGAN. With fewer than ``batch_size`` rows an epoch is a single step."""

    card = card("conditional tabular GAN", "Xu et al. 2019, Modeling tabular data using conditional GAN")
    synthesizer_class = "CTGANSynthesizer"

    epochs: int = param(300, "passes over the training rows", minimum=1)
    batch_size: int = param(500, "rows a step; a multiple of pac", minimum=2)
    pac: int = param(10, "rows that the discriminator judges together", minimum=1)

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of sdv's synthesizer."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "pac": self.pac, "verbose": False}
