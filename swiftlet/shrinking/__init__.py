"""The verb `shrink`: a trained network in; the smallest file that keeps its accuracy, or that fits a budget, out."""
