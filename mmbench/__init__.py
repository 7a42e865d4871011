"""Evaluation and benchmarking of generators of MRI volumes and clinical tables."""

__version__ = "0.1.0"
