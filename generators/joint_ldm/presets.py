"""Sizes and lengths of the model: what a preset says, and what a configuration says instead."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        "autoencoder_steps": 120,
        "steps": 380,
        "batch_size": 8,
        "latent_batch_size": 32,
        "learning_rate": 2e-3,
        "latent_learning_rate": 2e-3,
        "stem": 32,
        "features": 64,
        "image_latent": 12,
        "cells": 800,
        "width": 96,
        "depth": 3,
        "rank": 64,
    },
    "workstation": {
        "autoencoder_steps": 20_000,
        "steps": 50_000,
        "batch_size": 8,
        "latent_batch_size": 64,
        "learning_rate": 1e-3,
        "latent_learning_rate": 5e-4,
        "stem": 64,
        "features": 128,
        "image_latent": 16,
        "cells": 2_400,
        "width": 384,
        "depth": 8,
        "rank": 128,
    },
    "nako": {
        "autoencoder_steps": 60_000,
        "steps": 300_000,
        "batch_size": 16,
        "latent_batch_size": 64,
        "learning_rate": 1e-3,
        "latent_learning_rate": 3e-4,
        "stem": 64,
        "features": 192,
        "image_latent": 16,
        "cells": 4_800,
        "width": 768,
        "depth": 12,
        "rank": 128,
    },
}


@dataclass(frozen=True)
class Settings:
    """The generator's parameters, described there, with a preset's in place of those that are ``None``."""

    objective: str
    exchange: str
    latent: str
    precision: str
    autoencoder_steps: int
    steps: int
    batch_size: int
    latent_batch_size: int
    learning_rate: float
    latent_learning_rate: float
    stem: int
    features: int
    image_latent: int
    cells: int
    table_latent: int
    kl_weight: float
    table_kl_weight: float
    modality_dropout: float
    validation: float
    width: int
    depth: int
    rank: int

    @classmethod
    def of(cls, chosen: Any) -> Settings:
        """Return the settings of a generator with a ``preset``."""
        values = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(cls)}
        preset = PRESETS[chosen.preset]
        return cls(**{name: preset[name] if value is None else value for name, value in values.items()})

    @property
    def exchanges(self) -> bool:
        """Whether the modalities read each other."""
        return self.exchange != "none"

    @property
    def shared(self) -> bool:
        """Whether one latent holds both modalities."""
        return self.latent == "shared"
