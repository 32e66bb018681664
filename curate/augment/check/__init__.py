"""Are synthetic images any good? `check_synthetic` looks at them beside their parents and the real images of the target.

pictures.py   what is looked at: files, groups, and what is labelled on them
looks.py      one pass over the pixels: vectors of images and crops, measures
landing.py    are they where the target is: distances before and after, tests that try to tell them apart
fit.py        do the labels still fit: the mistakes check on them, against their parents' rate
copies.py     which are their parents over again
artefacts.py  clipping, bands, emptiness, blur, seams
run.py        all of it
"""
