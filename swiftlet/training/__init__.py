"""One network, one recipe: photos in; trained weights and a float32 file out. On one machine, or by torchrun on many.

The run folder is that of fit: one owner, stages, the same command goes on. Only rank 0 has it.

verb.py is the call, job.py what is trained, work.py the training, delivery.py the files.
"""

from swiftlet.training.result import Trained
from swiftlet.training.verb import train

__all__ = ["Trained", "train"]
