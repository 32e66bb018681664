"""Keeping a dataset and a project on a server equal: what changed where, since both last agreed.

`merge.py` decides for the annotations of one image; `pull.py` and `push.py` carry it out, each within one commit; `links.py`
keeps what both sides were when they last agreed; `verdicts.py` tells what became of findings.
"""
