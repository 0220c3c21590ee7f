"""What can be known without running: counts of modules and ONNX files, and the door that files come in by.

count.py counts, screen.py reads ONNX files, formulas.py and memory.py hold the arithmetic, shapes.py serves the
screen.
"""
