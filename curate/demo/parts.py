"""The shapes: one function per type of machined part.

Each draws a part's dimensions from a random generator and returns a `Part`, whose `relief` says how high the part is at any
point seen from above. Units: 1 is the radius of a round part; bolts have a radius of their own and lie along the u axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.demo.shading import Field


@dataclass(frozen=True)
class Relief:
    """A part at every point of a grid; all arrays have the grid's shape.

    Attributes:
        edge: Implicit silhouette: negative inside, positive outside, in units near the edge.
        height: Height of the surface, in units.
        tone: Multiplies the material's colour: dark in gaps.
        second: Weight in [0, 1] of the part's second material.
    """

    edge: Field
    height: Field
    tone: Field
    second: Field


@dataclass(frozen=True)
class Part:
    """One machined part.

    Attributes:
        label: Its class.
        variant: Its type within the class.
        extent: Half its size along u and v, in units.
        thickness: Height of its vertical walls, in units; 0 for what has none (a bolt lying down).
        relief: From the coordinates u and v of a grid's points to what is there.
        turned: Machining marks run around the centre, else along u.
        materials: What it may be made of.
        second: What its second material may be.
    """

    label: str
    variant: str
    extent: tuple[float, float]
    thickness: float
    relief: Callable[[Field, Field], Relief]
    turned: bool
    materials: tuple[str, ...]
    second: tuple[str, ...] = ("steel",)


_METALS = ("steel", "polished", "brass", "blackened", "galvanised")


def lying_bolt(rng: np.random.Generator) -> Part:
    """A bolt on its side: hexagon, socket cap, pan or countersunk head; partly or fully threaded."""
    variant = str(rng.choice(["hex", "hex", "socket", "countersunk"]))
    shaft = rng.uniform(0.20, 0.30)
    head_radius = shaft * rng.uniform(1.75, 2.0)
    head_length = {"hex": 0.66, "socket": 1.0, "countersunk": 0.55}[variant] * head_radius
    length = shaft * rng.uniform(4.5, 10.0)
    pitch = shaft * rng.uniform(0.28, 0.55)
    plain = length * float(rng.choice([0.0, 0.0, 0.3, 0.5]))
    roll = rng.uniform(0, np.pi / 3)
    lobes = rng.uniform(40, 60)
    start = -(head_length + length) / 2
    neck, tip = start + head_length, start + head_length + length

    def relief(u: Field, v: Field) -> Relief:
        threaded = _step(u - neck - plain, 0.02) * _step(tip - u, 0.02)
        groove = np.abs(_sawtooth((u + 0.35 * pitch * v / shaft) / pitch)) * 2.0
        radius = shaft * (1 - 0.15 * threaded * groove - 1.2 * np.clip(u - tip + 0.3 * shaft, 0, None))
        shaft_edge = np.maximum(np.maximum(np.abs(v) - radius, neck - 0.05 - u), u - tip)
        shaft_height = _cylinder(v, radius)
        if variant == "hex":
            head_height, half = _prism(v, head_radius, roll)
            head_edge = np.maximum(np.abs(v) - half, np.maximum(start - u, u - neck))
            # The chamfer: a cone that cuts the corners at the far end.
            head_edge = np.maximum(head_edge, np.abs(v) - (head_radius * 0.9 + (u - start) * 1.7))
            head_height = np.minimum(head_height, head_radius * 0.88 + (u - start) * 1.2)
        elif variant == "socket":
            knurl = 1 + 0.02 * np.sin(np.arcsin(np.clip(v / head_radius, -1, 1)) * lobes) * _step(neck - u - 0.12, 0.05)
            rounding = 0.25 * np.square(np.clip(1 - (u - start) / (0.2 * head_radius), 0, 1))
            head_height = _cylinder(v, head_radius * knurl * (1 - rounding))
            head_edge = np.maximum(np.abs(v) - head_radius * (1 - rounding), np.maximum(start - u, u - neck))
        else:
            cone = shaft + (head_radius - shaft) * np.clip((neck - u) / (head_length * 0.85), 0, 1)
            head_height = _cylinder(v, cone)
            head_edge = np.maximum(np.abs(v) - cone, np.maximum(start - u, u - neck))
        in_head = u < neck
        tone = 1 - 0.35 * threaded * groove * ~in_head - 0.25 * np.exp(-np.abs(u - neck - 0.01) / 0.03)
        return Relief(
            np.minimum(shaft_edge, head_edge),
            np.where(in_head, np.maximum(head_height, 0), shaft_height),
            tone,
            np.zeros_like(u),
        )

    extent = ((head_length + length) / 2, head_radius)
    return Part("bolt", variant, extent, 0.0, relief, False, _METALS)


def upright_bolt(rng: np.random.Generator) -> Part:
    """A bolt seen on its head: a hexagon with a raised boss and grade marks, or a socket cap with its hexagonal recess."""
    socket = bool(rng.random() < 0.6)
    marks = int(rng.choice([3, 6]))
    recess = rng.uniform(0.40, 0.5)

    def relief(u: Field, v: Field) -> Relief:
        r = _radius(u, v)
        if socket:
            edge = r - (0.93 + 0.02 * np.sign(np.sin(np.arctan2(v, u) * 44)))
            hole = _polygon(u, v, 6, recess)
            height = 0.7 * _rounded(edge, 0.14) - 0.45 * _step(-hole, 0.05)
            tone = 1 - 0.75 * _step(-hole, 0.05) + 0.10 * _step(-hole - 0.12, 0.05)
        else:
            edge = np.maximum(_polygon(u, v, 6, 0.86), r - 0.97)
            height = np.minimum(0.5, 0.5 - 0.5 * (r - 0.80))
            angle = _sawtooth(np.arctan2(v, u) * (marks / (2 * np.pi)))
            dash = _step(0.035 - np.abs(angle * 2 * np.pi / marks * r), 0.02) * _step(0.2 - np.abs(r - 0.5), 0.03)
            height = height + 0.05 * dash - 0.04 * _step(0.1 - r, 0.04)
            tone = 1 - 0.15 * _step(0.1 - r, 0.04)
        return Relief(edge, height, tone, np.zeros_like(u))

    return Part("bolt", "socket-upright" if socket else "hex-upright", (1, 1), 0.55, relief, True, _METALS)


def nut(rng: np.random.Generator) -> Part:
    """A nut from above: hexagonal, square or with a flange; a chamfered outside and a threaded hole."""
    variant = str(rng.choice(["hex", "hex", "hex", "square", "flange"]))
    hole = rng.uniform(0.44, 0.54)
    sides = 4 if variant == "square" else 6
    apothem = {"hex": 0.87, "square": 0.80, "flange": 0.66}[variant]
    hole *= {"hex": 1.0, "square": 0.9, "flange": 0.8}[variant]
    serrations = int(rng.integers(24, 36)) if rng.random() < 0.5 else 0
    tall = rng.uniform(0.4, 0.75)

    def relief(u: Field, v: Field) -> Relief:
        r = _radius(u, v)
        body = np.maximum(_polygon(u, v, sides, apothem), r - apothem * (1.27 if sides == 4 else 1.13))
        top = tall - 0.55 * np.clip(r - apothem * 1.0, 0, None) - 0.9 * np.clip(hole + 0.10 - r, 0, None)
        if variant == "flange":
            teeth = 0.025 * np.sin(np.arctan2(v, u) * serrations) if serrations else 0.0
            outer = r - (0.97 + teeth)
            flange = 0.12 + 0.35 * np.clip(0.97 - r, 0, None)
            height = flange + (top - flange) * _step(-body, 0.05)
            tone = 1 - 0.3 * np.exp(-np.square(body / 0.05)) * (body > -0.02)
        else:
            outer, height, tone = body, top, np.ones_like(u)
        thread = 1 + 0.06 * np.sin((r - hole) * 160) * (r < hole + 0.1)
        return Relief(np.maximum(outer, hole - r), height, tone * thread, np.zeros_like(u))

    thickness = 0.12 if variant == "flange" else tall
    return Part("nut", variant, (1.0 if sides == 6 else 1.05, 1.0), thickness, relief, True, _METALS)


def washer(rng: np.random.Generator) -> Part:
    """A washer: thin, thick, wide (fender) or split (spring)."""
    variant = str(rng.choice(["thin", "thick", "fender", "split"]))
    hole = {"thin": 0.54, "thick": 0.52, "fender": 0.30, "split": 0.64}[variant] + rng.uniform(-0.05, 0.05)
    thickness = {"thin": 0.07, "thick": 0.2, "fender": 0.07, "split": 0.2}[variant]
    rounding = rng.uniform(0.03, 0.08)
    gap = rng.uniform(0.05, 0.09)

    def relief(u: Field, v: Field) -> Relief:
        r = _radius(u, v)
        edge = np.maximum(r - 1, hole - r)
        height = thickness * _rounded(edge, rounding)
        tone = np.ones_like(u)
        if variant == "split":
            # Cut at a slant; one end stands higher than the other.
            across = v + 0.45 * (u - 0.8)
            edge = np.maximum(edge, np.where(u > 0, gap - np.abs(across), -1.0))
            height = height + 0.10 * (np.arctan2(v, u) / np.pi)
        return Relief(edge, height, tone, np.zeros_like(u))

    return Part("washer", variant, (1, 1), thickness, relief, True, (*_METALS, "galvanised"))


def gear(rng: np.random.Generator) -> Part:
    """A spur gear: 8 to 40 teeth, a bore with or without a keyway, a plain, recessed, drilled or spoked web."""
    teeth = int(rng.integers(8, 41))
    depth = min(0.26, 4.4 / (teeth + 4))
    root = 1 - depth
    bore = rng.uniform(0.16, 0.30)
    hub = bore + rng.uniform(0.10, 0.18)
    rim = root - rng.uniform(0.10, 0.16)
    web = str(rng.choice(["plain", "recessed", "drilled", "spoked"])) if rim - hub > 0.18 else "plain"
    holes = int(rng.integers(4, 7))
    keyway = bool(rng.random() < 0.5)
    raised = rng.uniform(0.0, 0.12)

    def relief(u: Field, v: Field) -> Relief:
        r, angle = _radius(u, v), np.arctan2(v, u)
        flank = np.abs(_sawtooth(angle * (teeth / (2 * np.pi)))) * 2.0
        outer = r - (root + depth * np.clip((flank - 0.28 - 0.22 * (r - root) / depth) * 4.5, 0, 1))
        edge = np.maximum(outer, bore - r)
        if keyway:
            edge = np.maximum(edge, -np.maximum(np.abs(v) - 0.3 * bore, np.abs(u - bore) - 0.3 * bore))
        sector = _sawtooth(angle * (holes / (2 * np.pi)) + 0.5)
        middle, reach = (rim + hub) / 2, (rim - hub) / 2
        height = 0.3 * _rounded(edge, 0.035)
        in_web = _step(reach - np.abs(r - middle), 0.035)
        if web == "drilled":
            turned = sector * (2 * np.pi / holes)
            hole = _radius(r * np.cos(turned) - middle, r * np.sin(turned)) - min(0.7 * reach, 0.2)
            edge = np.maximum(edge, -hole)
        elif web == "spoked":
            spoke = (0.5 - np.abs(sector)) * (2 * np.pi / holes) * r - 0.09
            edge = np.maximum(edge, np.minimum(reach - np.abs(r - middle), spoke))
        recess = 0.0 if web == "plain" else 0.12
        height = height - recess * in_web + raised * _step(hub - r, 0.03)
        return Relief(edge, height, 1 - 0.18 * in_web * (recess > 0), np.zeros_like(u))

    return Part("gear", web, (1, 1), 0.28, relief, True, ("steel", "polished", "cast", "cast", "brass", "blackened"))


def bearing(rng: np.random.Generator) -> Part:
    """A ball bearing: two rings, with open balls in a cage, a metal shield or a rubber seal between them."""
    variant = str(rng.choice(["open", "open", "shielded", "sealed"]))
    bore = rng.uniform(0.38, 0.52)
    wall = (1 - bore) * rng.uniform(0.20, 0.26)
    inner, outer = bore + wall, 1 - wall
    middle, ball = (inner + outer) / 2, (outer - inner) / 2 * 1.08
    balls = int(np.clip(np.floor(np.pi / np.arcsin(ball / middle) * rng.uniform(0.72, 0.95)), 6, 16))

    def relief(u: Field, v: Field) -> Relief:
        r = _radius(u, v)
        edge = np.maximum(r - 1, bore - r)
        race = np.minimum(r - inner, outer - r)
        in_race = _step(race, 0.02)
        height = 0.3 * _rounded(edge, 0.06) - 0.10 * in_race
        tone, second = np.ones_like(u), np.zeros_like(u)
        if variant == "open":
            turned = _sawtooth(np.arctan2(v, u) * (balls / (2 * np.pi))) * (2 * np.pi / balls)
            along, across = r * np.cos(turned) - middle, r * np.sin(turned)
            dome = ball * ball - np.square(along) - np.square(across)
            on_ball = _step(dome, 0.006)
            cage = _step(0.42 * ball - np.abs(r - middle), 0.03) * (1 - on_ball) * in_race
            height = height + on_ball * (np.sqrt(np.maximum(dome, 0)) * 0.85 - 0.02) - 0.10 * in_race * (1 - on_ball)
            tone = 1 - in_race * (1 - on_ball) * (1 - cage) * 0.85
            second = cage
        else:
            lip = np.exp(-np.square(race / 0.022))
            crease = np.exp(-np.square((r - inner - 0.3 * (outer - inner)) / 0.02))
            height = height + 0.05 * in_race - 0.03 * crease * in_race
            tone = 1 - 0.62 * lip
            second = in_race
        return Relief(edge, height, tone, second)

    second = {
        "open": ("brass", "steel"),
        "shielded": ("steel", "polished"),
        "sealed": ("rubber", "rubber_red", "rubber"),
    }
    return Part("bearing", variant, (1, 1), 0.3, relief, True, ("polished", "polished", "steel"), second[variant])


PART_TYPES: Final[dict[str, tuple[Callable[[np.random.Generator], Part], ...]]] = {
    "bolt": (lying_bolt, lying_bolt, lying_bolt, lying_bolt, upright_bolt),
    "nut": (nut,),
    "washer": (washer,),
    "gear": (gear,),
    "bearing": (bearing,),
}
"""The functions that make each class, the likelier ones named several times."""


def sample_part(label: str, rng: np.random.Generator) -> Part:
    """A part of a class, its type and dimensions drawn at random."""
    types = PART_TYPES[label]
    return types[int(rng.integers(len(types)))](rng)


def _radius(u: Field, v: Field) -> Field:
    """As `np.hypot`, which guards against overflow at ten times the price."""
    out: Field = np.sqrt(u * u + v * v)
    return out


def _sawtooth(x: Field) -> Field:
    """Rises from -0.5 to 0.5 over every unit."""
    out: Field = x - np.floor(x) - 0.5
    return out


def _step(x: Field, width: float) -> Field:
    """0 below -width / 2, 1 above width / 2, smooth between."""
    t = np.clip(x / width + 0.5, 0, 1)
    out: Field = t * t * (3 - 2 * t)
    return out


def _rounded(edge: Field, width: float) -> Field:
    """Quarter-round profile: 0 at the edge, 1 from `width` inside of it."""
    t = np.clip(1 + edge / width, 0, 1)
    out: Field = np.sqrt(1 - t * t)
    return out


def _cylinder(v: Field, radius: Field | float) -> Field:
    out: Field = np.sqrt(np.maximum(radius * radius - v * v, 0))
    return out


def _polygon(u: Field, v: Field, sides: int, apothem: float) -> Field:
    """Distance to the nearest side of a regular polygon with an even number of sides."""
    angles = np.arange(sides // 2) * (2 * np.pi / sides)
    distance = np.abs(u)
    for angle in angles[1:]:
        distance = np.maximum(distance, np.abs(u * np.float32(np.cos(angle)) + v * np.float32(np.sin(angle))))
    out: Field = distance - apothem
    return out


def _prism(v: Field, radius: float, roll: float) -> tuple[Field, float]:
    """Upper surface of a hexagonal prism lying along u, rolled about its axis; and half its width."""
    corners = roll + np.arange(6) * (np.pi / 3)
    half = float(radius * np.abs(np.cos(corners)).max())
    height = np.full_like(v, radius)
    for normal in corners + np.pi / 6:
        up = np.sin(normal)
        if up > 0.05:
            height = np.minimum(height, (radius * 0.866 - v * np.float32(np.cos(normal))) / np.float32(up))
    return height, half
