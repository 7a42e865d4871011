"""The joint latent diffusion model."""

from .model import JointLDM

__all__ = ["JointLDM"]
