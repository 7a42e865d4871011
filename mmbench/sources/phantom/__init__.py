"""The embedded cohort: who its subjects are, what their bodies are made of, and what a scanner shows of it."""

from mmbench.sources.phantom.source import PhantomSource

__all__ = ["PhantomSource"]
