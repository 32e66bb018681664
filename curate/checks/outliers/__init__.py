"""Images and objects that belong to nothing: far from all others, seen from several sides.

`isolation.py` says how far, `tail.py` how probable it is that so far is not chance, and `check.py` makes findings.
"""
