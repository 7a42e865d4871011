"""The joint latent diffusion model."""
