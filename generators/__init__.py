"""Built-in generators, one file each; found by entry point, imported by nobody by name."""
