"""`curate augment --prove`: do the synthetic images help? Two trainings of the same budget, with them and without.

division.py  what is measured on, and what may be learnt from without having seen it
run.py       trains, predicts, measures; what an interrupted run has trained is not trained again
effects.py   the gain on the target and the cost elsewhere, with intervals
store.py     the result, kept in a table of the dataset
"""
