"""FiftyOne: a dataset in its App and back, and its datasets as a source and a target.

environment.py database.py     the package with settings of our own; its database, started and stopped
layout.py labels.py marks.py samples.py     which field is for what; annotations, findings and images as documents
target.py publish.py views.py brain.py editor.py     the FiftyOne dataset: made, brought up to date, with views, map, similarity
patches.py                     the copies of labels that its views show one by one
edits.py take.py               what was done in the App, and taking it over
sync.py server.py app.py       both ways; the App and its server while it runs
reading.py transfer.py         fiftyone://NAME
"""

from typing import Final

PORT: Final = 5151
"""Where the App is served unless said."""
