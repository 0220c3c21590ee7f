"""The whole way: photos and a budget in; a checked file, its evidence and a report out.

A run is a folder of stages. Each stage is computed once and stored whole, so the same command takes up where a
killed run left off and ends with the same file. Time is the only thing that could make two runs differ. It decides in
the plan, which is a stage too (`plan` repeats a run with the plan of another), and, once there is a file to deliver,
when to stop.

verb.py is the call, layout.py the plan, rounds.py the training, offers.py and rescue.py the files, delivery.py the last
of them; workplace.py is what they share.
"""

from swiftlet.fitting.layout import recipe_of
from swiftlet.fitting.result import Result
from swiftlet.fitting.verb import fit

__all__ = ["Result", "fit", "recipe_of"]
