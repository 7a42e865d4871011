"""Turn MedicalNet's published weights into safetensors: python examples/medicalnet_weights.py IN.pth OUT.safetensors.

A .pth file is a pickle. It is read with weights_only=True, which admits tensors and plain containers only; do this
once, with a file from github.com/Tencent/MedicalNet or huggingface.co/TencentMedicalNet, and mmbench itself never
reads a pickle.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def convert(source: Path, target: Path) -> None:
    """Write the tensors of a checkpoint as safetensors."""
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    tensors = checkpoint.get("state_dict", checkpoint)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
