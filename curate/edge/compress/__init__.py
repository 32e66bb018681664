"""Smaller and faster models out of trained ones, and how much they lose by it: `curate compress`.

images.py calibration.py     which images judge, and which are shown to the quantiser: those that cover the data
graph.py quantise.py         an ONNX file made ready, and made INT8 (QDQ); sensitivity.py: what each layer costs
nncf.py                      the same by NNCF, where it is installed
rebuild.py teacher.py        a run as a network that learns on, from a larger model's answers too
qat.py prune.py              rounding while it learns; channels taken out, and what was lost learnt again
latency.py frontier.py       what is won and lost; which of all are worth having, and which is the best in a budget
search.py store.py           all of it in order; the result as a run of its own
"""
