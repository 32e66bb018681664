"""Images of one split that are copies of images in another, or come from the same source, and a split without them.

`links.py` finds the pairs across splits, `resplit.py` suggests a split that keeps what belongs together whole, and `check.py`
makes findings of the one and carries out the other.
"""
