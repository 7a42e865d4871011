"""Built-in reports; found by entry point."""
