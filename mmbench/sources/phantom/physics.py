"""What a two-point Dixon scan shows of tissue fractions: water and fat images, coil shading and noise."""

from __future__ import annotations

import numpy as np

# Water and fat signal, subcutaneous fat in phase = 1000: spoiled gradient echo at 3 T (TR 4.36 ms, flip angle
# 9 degrees) with T1 and T2 of de Bazelaire et al. 2004 (Radiology 230) and the six-peak fat spectrum of
# Hamilton et al. 2011 (NMR Biomed 24). Liver and muscle are given without their fat;
# muscle is set a little darker than simulated, bowel contents brighter, as they look in NAKO and UK Biobank.
WATER_AND_FAT = {
    "subcutaneous": (61, 1192),
    "visceral": (89, 1116),
    "muscle": (540, 0),
    "liver": (621, 0),
    "spleen": (482, 0),
    "kidney": (564, 0),
    "bowel": (520, 30),
    "contents": (700, 20),
    "fluid": (248, 0),
    "marrow": (254, 289),
    "disc": (494, 0),
    "heart": (560, 0),
    "blood": (439, 0),
    "lung": (12, 0),
    "bone": (2, 0),
}
FULL_FAT = 1192.0
"""Signal of pure subcutaneous fat: the unit of the images."""

# Adipose tissue is 93.7 % fat by proton density (Karlsson et al. 2015, J Magn Reson Imaging 41); marrow 40 %.
ADIPOSE_FAT_FRACTION = 0.937
MARROW_FAT_FRACTION = 0.40


def tissue_signals(tissues: tuple[str, ...], liver_fat: float, muscle_fat: float) -> np.ndarray:
    """Return the water and fat signal of each tissue, subcutaneous fat being 1.

    Args:
        tissues: Names.
        liver_fat: Proton density fat fraction of the liver.
        muscle_fat: The same of muscle.

    Returns:
        float32 of shape (2, tissues).
    """
    signals = np.array([WATER_AND_FAT[name] for name in tissues], dtype=float).T / FULL_FAT
    for name, fraction in (("liver", liver_fat), ("muscle", muscle_fat)):
        index = tissues.index(name)
        # Short T1 makes fat brighter than its share: liver 4 % of fat gives 39, 20 % gives 196 units.
        signals[:, index] = signals[0, index] * (1 - fraction), 980 * fraction / FULL_FAT
    return signals.astype(np.float32)


def scan(
    shares: np.ndarray,
    signals: np.ndarray,
    noise: float,
    bias_field: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a water and a fat image.

    Args:
        shares: Tissue fractions of shape (tissues, x, y, z).
        signals: Water and fat signal of each tissue, shape (2, tissues).
        noise: Standard deviation of the noise in each of the real and imaginary parts.
        bias_field: Coil shading: standard deviation of the log of the gain over the grid.
        rng: Draws shading and noise.

    Returns:
        float32 of shape (2, x, y, z), non-negative; magnitudes are Rician (Gudbjartsson and Patz 1995).
    """
    images = np.zeros((2, *shares.shape[1:]), np.float32)
    # Summed one by one: a matrix product would round differently on another machine's BLAS.
    for tissue, share in enumerate(shares):
        for channel in range(2):
            if signals[channel, tissue]:
                images[channel] += signals[channel, tissue] * share
    if bias_field:
        images *= _shading(shares.shape[1:], bias_field, rng)
    if noise:
        real, imaginary = (
            rng.standard_normal(images.shape, np.float32) * np.float32(noise) for _ in range(2)
        )
        images = np.hypot(images + real, imaginary)
    return images


def _shading(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth gain around 1: the exponential of a random quadratic polynomial."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    terms = [
        *axes,
        *(axis**2 - 1 / 3 for axis in axes),
        axes[0] * axes[1],
        axes[1] * axes[2],
        axes[0] * axes[2],
    ]
    field = sum(np.float32(weight) * term for weight, term in zip(rng.standard_normal(9), terms, strict=True))
    field = np.asarray(field) - np.float32(np.mean(field))
    return np.exp(np.float32(strength / 2) * field).astype(np.float32)
