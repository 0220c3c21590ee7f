"""Figures and tables of the documentation, made from the code; a test compares them with the committed ones."""
