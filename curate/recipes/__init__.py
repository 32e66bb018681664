"""Recipes of image changes: files anyone can read, named ones that follow physics, and labels that go where the pixels go.

    from curate.recipes import Pipeline, load_recipe

    pipeline = Pipeline(load_recipe("night"))
    applied = pipeline(pixels, np.random.default_rng(0), shapes=shapes)

Importing this imports albumentations (two seconds of it), and lets `albumentations.load` read our own transforms.
"""

from curate.recipes import transforms as transforms
from curate.recipes.files import NAMED, load_recipe, named_recipe, own_transforms, read_recipe, validate, write_recipe
from curate.recipes.pipeline import Applied, Drawing, Drawn, Pipeline
from curate.recipes.preview import preview
from curate.recipes.recipe import Recipe, Step
from curate.recipes.severity import CORRUPTIONS, at_severity, graded
from curate.recipes.shapes import Shape

__all__ = [
    "CORRUPTIONS",
    "NAMED",
    "Applied",
    "Drawing",
    "Drawn",
    "Pipeline",
    "Recipe",
    "Shape",
    "Step",
    "at_severity",
    "graded",
    "load_recipe",
    "named_recipe",
    "own_transforms",
    "preview",
    "read_recipe",
    "validate",
    "write_recipe",
]
