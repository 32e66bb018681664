"""Transforms that albumentations 2.0.8 lacks, in linear light: importing this file lets `albumentations.load` read them.

Light adds and multiplies in linear values, not in those of files: exposure, lamps, vignetting, glare, dirt and fog are computed
there (IEC 61966-2-1, sRGB). What albumentations does physically well is not here: shot noise (`ShotNoise`, in linear light), read
noise (`GaussNoise`), defocus (`Defocus`, a disc), motion (`MotionBlur`, which must be told not to shift), JPEG, rain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from curate.errors import InputError
from curate.imaging import Pixels
from curate.recipes.backend import (
    BaseCompose,
    BaseDistortion,
    BaseTransformInitSchema,
    ImageOnlyTransform,
    check_range_bounds,
    nondecreasing,
    own,
    require_rgb,
)
from curate.recipes.light import (
    CAMERA_KELVIN,
    KELVIN,
    decode,
    encode,
    lamp_gains,
    numbers_of_light,
    through_table,
    thumbnail,
)

Linear = npt.NDArray[np.float32]

_FALLBACK_HORIZON: Final = 0.35
_FALLBACK_NEAREST: Final = 0.1
_FAR_PERCENTILE: Final = 95
_CONTRAST_LEFT: Final = 0.05
_DIRT_SIDE: Final = 160
_NUMBERS: Final = 6

Kelvin = Annotated[
    tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(KELVIN[0], KELVIN[1]))
]
Share = Annotated[tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(0, 1))]
NotNegative = Annotated[tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(0, None))]
Signed = Annotated[tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(-1, 1))]


@own
class Exposure(ImageOnlyTransform):  # type: ignore[misc]
    """More or less light: linear values times 2 to the power of `ev`, cut off where the sensor is full.

    Args:
        ev_range: Stops; -1 is half the light.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        ev_range: Annotated[
            tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(-12, 12))
        ]

    def __init__(self, ev_range: tuple[float, float] = (-1.0, 1.0), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.ev_range = ev_range

    def get_params(self) -> dict[str, Any]:
        return {"ev": self.py_random.uniform(*self.ev_range)}

    def apply(self, img: Pixels, ev: float, **params: Any) -> Pixels:
        return through_table(img, np.full(3, 2.0**ev))


@own
class LampTemperature(ImageOnlyTransform):  # type: ignore[misc]
    """Another lamp over a camera whose white balance was set for the old one: linear gains along the Planckian locus.

    The luminance of white stays. albumentations' `PlanckianJitter` has linear gains too, but applies them to the values of
    files, so that its colours are far stronger, and always has 6000 K among what it draws, so that it cannot say one lamp.

    Args:
        kelvin_range: Temperature of the new lamp, 1667 to 25000 K.
        balanced_for: Temperature that the camera takes for white.
        adaptation: Share of the change that the camera's automatic white balance takes back, 0 to 1.

    References:
        Kim et al. (2002), Design of advanced color temperature control system (the locus as polynomials).
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        kelvin_range: Kelvin
        balanced_for: float = Field(ge=KELVIN[0], le=KELVIN[1])
        adaptation: float = Field(ge=0, le=1)

    def __init__(
        self,
        kelvin_range: tuple[float, float] = (2800.0, 3200.0),
        balanced_for: float = CAMERA_KELVIN,
        adaptation: float = 0.0,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.kelvin_range = kelvin_range
        self.balanced_for = balanced_for
        self.adaptation = adaptation

    def get_params(self) -> dict[str, Any]:
        # Evenly by the reciprocal (mired), in which equal steps look equal.
        low, high = (1e6 / kelvin for kelvin in self.kelvin_range)
        return {"kelvin": 1e6 / self.py_random.uniform(low, high)}

    def apply(self, img: Pixels, kelvin: float, **params: Any) -> Pixels:
        return through_table(img, lamp_gains(kelvin, self.balanced_for) ** (1 - self.adaptation))


@own
class Vignetting(ImageOnlyTransform):  # type: ignore[misc]
    """Less light towards the corners, by the fourth power of the cosine of the angle to the optical axis.

    Args:
        strength_range: Share of the light that the corners lose, 0 to below 1.

    References:
        Hasinoff (2014), Vignetting, in Computer Vision: A Reference Guide.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        strength_range: Annotated[
            tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(0, 0.99))
        ]

    def __init__(self, strength_range: tuple[float, float] = (0.2, 0.6), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.strength_range = strength_range

    def get_params(self) -> dict[str, Any]:
        return {"strength": self.py_random.uniform(*self.strength_range)}

    def apply(self, img: Pixels, strength: float, **params: Any) -> Pixels:
        x, y = _plane(img.shape[:2], (0.5, 0.5))
        squared = (x**2 + y[:, None] ** 2) * 4  # 1 in the corners
        gain = (1 + ((1 - strength) ** -0.5 - 1) * squared) ** -2
        return encode(decode(img) * gain[..., None].astype(np.float32))


@own
class VeilingGlare(ImageOnlyTransform):  # type: ignore[misc]
    """A bright lamp or a low sun in or beside the picture: its light scattered in lens and eye lies over everything.

    The veil falls with the square of the distance from the source (Stiles and Holladay's law of disability glare), flattened near
    it: strength * width^2 / (distance^2 + width^2), in parts of the image's diagonal.

    Args:
        strength_range: Light of the veil at the source, in units of white; above 1 the sensor is full there.
        centre_x_range: Where the source is, in parts of the width; may be beside the image.
        centre_y_range: In parts of the height.
        width: Of the flat middle, in parts of the diagonal.
        kelvin: Colour of the light; a sun 10 degrees high has some 4000 K.

    References:
        Vos (2003), On the cause of disability glare and its dependence on glare angle, age and ocular pigmentation.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        strength_range: NotNegative
        centre_x_range: Annotated[tuple[float, float], AfterValidator(nondecreasing)]
        centre_y_range: Annotated[tuple[float, float], AfterValidator(nondecreasing)]
        width: float = Field(gt=0, le=2)
        kelvin: float = Field(ge=KELVIN[0], le=KELVIN[1])

    def __init__(
        self,
        strength_range: tuple[float, float] = (0.3, 1.5),
        centre_x_range: tuple[float, float] = (0.0, 1.0),
        centre_y_range: tuple[float, float] = (-0.1, 0.3),
        width: float = 0.15,
        kelvin: float = CAMERA_KELVIN,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.strength_range = strength_range
        self.centre_x_range = centre_x_range
        self.centre_y_range = centre_y_range
        self.width = width
        self.kelvin = kelvin

    def get_params(self) -> dict[str, Any]:
        return {
            "strength": self.py_random.uniform(*self.strength_range),
            "centre": (self.py_random.uniform(*self.centre_x_range), self.py_random.uniform(*self.centre_y_range)),
        }

    def apply(self, img: Pixels, strength: float, centre: tuple[float, float], **params: Any) -> Pixels:
        x, y = _plane(img.shape[:2], centre)
        veil = strength * self.width**2 / (x**2 + y[:, None] ** 2 + self.width**2)
        colour = lamp_gains(self.kelvin, CAMERA_KELVIN).astype(np.float32)
        return encode(decode(img) + veil[..., None].astype(np.float32) * colour)


@own
class DirtyLens(ImageOnlyTransform):  # type: ignore[misc]
    """Dust and smears on the lens, far out of focus: each takes some of the light and scatters some of the whole scene's.

    Args:
        spots_range: How many spots.
        radius_range: Of a spot, in parts of the image's diagonal.
        opacity_range: Share of the light that the middle of a spot takes.
        scatter: Share of what is taken that comes back as the scene's mean light.

    References:
        Gu, Ramamoorthi, Belhumeur and Nayar (2009), Removing image artifacts due to dirty camera lenses and thin occluders.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        spots_range: Annotated[
            tuple[int, int], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(1, 1000))
        ]
        radius_range: Annotated[
            tuple[float, float], AfterValidator(nondecreasing), AfterValidator(check_range_bounds(0.002, 1))
        ]
        opacity_range: Share
        scatter: float = Field(ge=0, le=1)

    def __init__(
        self,
        spots_range: tuple[int, int] = (8, 30),
        radius_range: tuple[float, float] = (0.01, 0.06),
        opacity_range: tuple[float, float] = (0.2, 0.7),
        scatter: float = 0.5,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.spots_range = spots_range
        self.radius_range = radius_range
        self.opacity_range = opacity_range
        self.scatter = scatter

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        rng, count = self.random_generator, self.py_random.randint(*self.spots_range)
        centres = rng.uniform(0, 1, (count, 2))
        radii, opacities = rng.uniform(*self.radius_range, count), rng.uniform(*self.opacity_range, count)
        return {"spots": np.column_stack([centres, radii, opacities])}

    def apply(self, img: Pixels, spots: npt.NDArray[np.float64], **params: Any) -> Pixels:
        import cv2

        height, width = img.shape[:2]
        # What is so blurred is drawn small.
        scale = min(1.0, _DIRT_SIDE / max(height, width))
        size = max(round(height * scale), 2), max(round(width * scale), 2)
        passed = np.ones(size)
        for x, y, radius, opacity in spots:
            across, down = _plane(size, (float(x), float(y)))
            passed *= 1 - opacity * np.exp(-(((across**2 + down[:, None] ** 2) / radius**2) ** 2))
        passed = cv2.resize(passed.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
        light = decode(img)
        mean = light.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        return encode(light * passed + self.scatter * (1 - passed) * mean)


@own
class RollingShutter(BaseDistortion):  # type: ignore[misc]
    """Rows are read one after the other while the scene goes by or the camera shakes: a skew, and a wobble. Labels move too.

    Args:
        skew_range: How far the last row has gone on against the first, in parts of the width; negative to the left.
        wobble_range: Amplitude of the shake, in parts of the width.
        wobble_periods: How often it shakes while one image is read.
        fill: Colour where nothing is seen.
        fill_mask: Value of masks there.
        border_mode, interpolation, mask_interpolation, keypoint_remapping_method: As in albumentations' distortions.

    References:
        Meingast, Geyer and Sastry (2005), Geometric models of rolling-shutter cameras.
    """

    class InitSchema(BaseDistortion.InitSchema):  # type: ignore[misc]
        skew_range: Signed
        wobble_range: Share
        wobble_periods: NotNegative

    def __init__(
        self,
        skew_range: tuple[float, float] = (-0.1, 0.1),
        wobble_range: tuple[float, float] = (0.0, 0.0),
        wobble_periods: tuple[float, float] = (1.0, 3.0),
        interpolation: int = 1,
        mask_interpolation: int = 0,
        keypoint_remapping_method: str = "direct",
        border_mode: int = 0,
        fill: tuple[float, ...] | float = 0,
        fill_mask: tuple[float, ...] | float = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(
            interpolation=interpolation,
            mask_interpolation=mask_interpolation,
            keypoint_remapping_method=keypoint_remapping_method,
            p=p,
            border_mode=border_mode,
            fill=fill if isinstance(fill, tuple | list) else (fill, fill, fill),  # OpenCV would fill red alone
            fill_mask=fill_mask,
        )
        self.skew_range = skew_range
        self.wobble_range = wobble_range
        self.wobble_periods = wobble_periods

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        skew, wobble = self.py_random.uniform(*self.skew_range), self.py_random.uniform(*self.wobble_range)
        periods, phase = self.py_random.uniform(*self.wobble_periods), self.py_random.uniform(0, 2 * np.pi)
        read = (np.arange(height) + 0.5) / height
        shift = width * (skew * (read - 0.5) + wobble * np.sin(2 * np.pi * periods * read + phase))
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        return {"skew": skew, "wobble": wobble, "map_x": columns - shift[:, None].astype(np.float32), "map_y": rows}


@own
class FogWithDepth(ImageOnlyTransform):  # type: ignore[misc]
    """Fog by distance: I = J t + A (1 - t), t = exp(-beta d) (Koschmieder 1924), in linear light.

    Distances come with the image as `depth` (farther is larger). Where they are in metres, `visibility_range` says how far one
    sees; else beta follows from `density_range`, the optical depth at the map's far end (its 95th percentile). Without a map the
    distance is guessed: flat ground below a horizon at 0.35 of the height, all as far as can be above it.

    Args:
        density_range: beta * d at the far end.
        visibility_range: Metres at which contrast falls to 5% (the meteorological optical range, beta = 3.0 / V); None where
            depths are in no known unit.
        airlight_range: Light of the fog itself, in linear parts of white.

    References:
        Koschmieder (1924), Theorie der horizontalen Sichtweite; Sakaridis, Dai and Van Gool (2018), Semantic foggy scene
        understanding with synthetic data.
    """

    class InitSchema(BaseTransformInitSchema):  # type: ignore[misc]
        density_range: NotNegative
        visibility_range: tuple[float, float] | None
        airlight_range: Share

        @model_validator(mode="after")
        def _can_see(self) -> Any:
            seen = self.visibility_range
            if seen is not None and not 0 < seen[0] <= seen[1]:
                raise ValueError("visibility_range: the first value must be above 0 and not above the second")
            return self

    def __init__(
        self,
        density_range: tuple[float, float] = (0.5, 2.0),
        visibility_range: tuple[float, float] | None = None,
        airlight_range: tuple[float, float] = (0.6, 0.85),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.density_range = density_range
        self.visibility_range = visibility_range
        self.airlight_range = airlight_range

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        density, airlight = self.py_random.uniform(*self.density_range), self.py_random.uniform(*self.airlight_range)
        depth = data.get("depth")
        if depth is None:
            return {"airlight": airlight, "density": density, "optical": density * _guessed_distance(params["shape"])}
        known = np.isfinite(depth) & (depth > 0)
        if self.visibility_range is not None:
            visibility = self.py_random.uniform(*self.visibility_range)
            far = float(depth[known].max(initial=0))
            optical = np.where(known, depth, far) * (-np.log(_CONTRAST_LEFT) / visibility)
            return {"airlight": airlight, "visibility": visibility, "optical": optical}
        far = float(np.percentile(depth[known], _FAR_PERCENTILE)) if known.any() else 1.0
        return {"airlight": airlight, "density": density, "optical": density * np.where(known, depth, far) / far}

    def apply(self, img: Pixels, airlight: float, optical: npt.NDArray[np.float64], **params: Any) -> Pixels:
        passed = np.exp(-optical).astype(np.float32)[..., None]
        return encode(decode(img) * passed + np.float32(airlight) * (1 - passed))


@own
class ByLight(BaseCompose):  # type: ignore[misc]
    """One of its transforms: that for the light which an image's is nearest to, told by its pixels alone.

    So that images taken in several lights can each be changed from its own to another one.

    Args:
        transforms: One for each light.
        lights: What `curate.recipes.light.numbers_of_light` says of each light; six numbers for each transform.
        scale: By how much these numbers vary within a light; six numbers above 0.
    """

    def __init__(
        self, transforms: Sequence[Any], lights: Sequence[Sequence[float]], scale: Sequence[float], p: float = 1.0
    ) -> None:
        super().__init__(transforms=list(transforms), p=p)
        middles, spread = _finite(lights), _finite(scale)
        if middles is None or middles.shape != (len(self.transforms), _NUMBERS):
            raise ValueError(
                f"lights: {_NUMBERS} numbers are needed for each of its {len(self.transforms)} transforms, all finite"
            )
        if spread is None or spread.shape != (_NUMBERS,) or not spread.min() > 0:
            raise ValueError(f"scale: {_NUMBERS} numbers above 0 are needed, all finite")
        self.lights, self.scale = [list(each) for each in lights], list(scale)
        self._middles, self._scale = middles, spread

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> dict[str, Any]:
        """Change an image, and what goes with it, by the transform for its light."""
        if not (force_apply or self.py_random.random() < self.p):
            return data
        if "image" not in data:
            raise InputError("ByLight tells the light by an image, and there is none", remedy="call it with image=...")
        require_rgb(data["image"], "ByLight")
        found = numbers_of_light(thumbnail(data["image"])[None])[0]
        nearest = int(np.square((self._middles - found) / self._scale).sum(axis=1).argmin())
        done: dict[str, Any] = self.transforms[nearest](**data)
        return done

    def to_dict_private(self) -> dict[str, Any]:
        """With what albumentations needs to make it again."""
        said: dict[str, Any] = super().to_dict_private()
        return {**said, "lights": self.lights, "scale": self.scale}


def _finite(values: Any) -> npt.NDArray[np.float64] | None:
    """Numbers as an array; None where these are none, or not all finite."""
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() else None


def _plane(
    size: tuple[int, int], centre: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances of columns and of rows from a point given in parts of the size; in parts of the diagonal."""
    height, width = size
    diagonal = np.hypot(height, width)
    columns, rows = np.arange(width) + 0.5 - centre[0] * width, np.arange(height) + 0.5 - centre[1] * height
    return columns / diagonal, rows / diagonal


def _guessed_distance(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Of flat ground seen from above it, 1 at most; shape (height, width)."""
    height, width = shape[:2]
    below = (np.arange(height) + 0.5) / height - _FALLBACK_HORIZON
    distance = np.where(below > 0, _FALLBACK_NEAREST * (1 - _FALLBACK_HORIZON) / np.maximum(below, 1e-6), 1)
    return np.repeat(np.minimum(distance, 1)[:, None], width, axis=1)
