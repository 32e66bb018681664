"""What is measured of every image's pixels in one pass: light, color, focus, noise and perceptual hashes.

`table.py` is what other checks use: it brings a dataset's measures up to date and reads them. `computation.py` runs in the
decoding threads; the other modules are what it measures, pure functions from pixels to numbers.
"""
