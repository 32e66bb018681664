"""`curate quality`: images and objects that are dark, blurred, noisy, odd or broken, judged from what was measured of them.

`check.py` loads the measures and makes findings; `judge.py` and the modules beside it are pure functions from arrays.
"""
