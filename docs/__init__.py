"""Documentation, and what draws it: python -m docs.generate."""
