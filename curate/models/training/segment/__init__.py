"""Learning a class for each pixel: `create` makes the learner.

choices     what is chosen where nobody says
regions     masks and polygons as maps of channels
views       what part of an image is seen, and how large
network     networks and their first weights
builtin     the network on curate's own encoder
losses      what is made small
counts      IoU and Dice
export      the network as an ONNX file
"""

from curate.models.training.segment.learner import create as create
