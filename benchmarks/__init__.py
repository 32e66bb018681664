"""What curate is measured by: `python -m benchmarks` runs everything, `python -m benchmarks.NAME` one of them.

versus                the same work by curate and its peers, and the limit: one table of ratios
growth                how each command's cost grows, from a thousand images to a million
startup               how long a command takes to start
label_errors          wrong labels found, against cleanlab on the same out-of-fold probabilities
label_errors_scale    time and memory for a million labels, against cleanlab
import_coco           time and memory to import a large COCO file, against other tools that load it
mistakes_end_to_end   the installed command on sets with known wrong labels
mistakes_detection    wrong boxes found with out-of-fold predictions, against a plain matcher, ObjectLab and FiftyOne
encoders              what the built-in encoder tells apart
fit_descriptor        not a benchmark: makes the descriptor's weights

report.py and sets.py are what they share; `python -m benchmarks --help` lists all.
"""
