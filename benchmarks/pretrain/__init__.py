"""Pre-training of the built-in encoder from procedurally generated pictures: no photograph, nobody else's weights.

solids.py       solids in space, and the flat pieces that a camera sees of them
things.py       formulas for things: a category is a formula with its parameters fixed, a thing one of its variations
living.py       the formulas for what grows: creatures, people, faces, plants
made.py         the formulas for what is made: buildings, vehicles, furniture, vessels, instruments, machine parts, signs
textures.py     formulas for surfaces and backgrounds
styles.py       a thing in front of a background as a photograph, painting, cartoon, drawing or sketch
variation.py    numbers that a category fixes, and numbers that vary
pictures.py     a numbered picture from a seed, and many of them
views.py        what augmentation makes of a picture
network.py      the network
train.py        the training: resumable, the same from the same seed
description.py  the descriptor that the network is joined with, as part of the graph
export.py       the trained network as the file that the package ships
record.py       its settings, log, curve and hash
"""
