"""Shift: set-ups of light within a set, slices on which a model fails, and drift between a reference and new images.

`check.py` holds the command's two checks: `shift` looks at one set (`explore.py`), `drift` at two (`compare.py`). Below them
are pure functions on arrays:

    light.py          what the light is like in an image, apart from what the image shows
    axes.py           everything measured, as axes with words for their ends
    mixture.py clusters.py naming.py          set-ups of light, kinds of content, and what sets them apart
    performance.py slices.py                  errors per image, and where there are more of them than elsewhere
    two_sample.py images.py label_shift.py    is it shifted, which images are, and have the classes changed
    permutation.py    many permutation tests at once, which both kinds of test rest on
    map.py            a map in two dimensions
"""
