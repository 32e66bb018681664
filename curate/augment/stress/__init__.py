"""`curate stress`: where a model breaks as light, focus, noise and weather get worse.

cells.py     which corruption at which severity: the grid
sample.py    which images a model is shown
run.py       predicts on all of it and measures; what an interrupted run has done is not done again
curves.py    accuracy against severity, where it breaks, and what would cover it
store.py     the numbers, kept in a table of the dataset
gate.py      what a model may lose, for CI
"""

from typing import Final

STRESS: Final = "stress"
"""The table of the dataset."""
