"""Fits a recipe to a measured difference: what turns images of the rest into images like the target's.

    fitted = fit_recipe(rest, dark_warm, seed=0, name="dark_warm")
    write_recipe(fitted.recipe, Path("dark_warm.yaml"))

`fit.py` goes through it from start to end. Light and tone are fitted to thumbnails (`camera.py` says what the transforms do,
`looks.py` what is compared), blur and noise to crops at full resolution (`lens.py`, `detail.py`), both by `moments.py`; what
compression did is read from files or pixels (`jpeg.py`); `steps.py` writes the recipe.
"""

from curate.augment.fit.base import Fitted, Parameter
from curate.augment.fit.fit import fit_recipe

__all__ = ["Fitted", "Parameter", "fit_recipe"]
