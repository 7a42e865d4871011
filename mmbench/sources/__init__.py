"""Built-in cohort sources; found by entry point."""
