"""Built-in metrics, measurers and extractors, one family a file; found by entry point."""
