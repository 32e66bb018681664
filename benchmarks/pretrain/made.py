"""Formulas for what is made: buildings, vehicles, furniture, vessels, instruments, machine parts, signs."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from benchmarks.pretrain.solids import Array, Ball, Limb, Prism, Solid, Turned, box, lathe, rotation
from benchmarks.pretrain.variation import Parameters


def building(p: Parameters) -> list[Solid]:
    """Walls with windows and a door under some roof, with wings, chimneys and towers."""
    wide, high, deep = p.size(0.7, 1.8), p.size(0.4, 1.8), p.size(0.5, 1.2)
    solids: list[Solid] = [box((0, 0, 0), (wide, high, deep), 0, 0), *_roof(p, wide, high, deep, 0.0)]
    columns, rows = p.count(1, 5), p.count(1, 5)
    window = np.array([wide / columns * p.level(0.3, 0.7), high / rows * p.level(0.3, 0.65)])
    front = -deep / 2 - 0.01
    for x in (np.arange(columns) + 0.5) / columns * wide - wide / 2:
        for y in (np.arange(rows) + 0.45) / rows * high - high / 2:
            solids.append(box((x, y, front), (*window, 0.01), 3, 2))
            if columns * rows < 7:
                solids.append(box((x, y, front - 0.01), (0.02, window[1], 0.01), 5, 3))
    door = p.size(0.2, 0.45)
    solids.append(box((p.level(-0.3, 0.3) * wide, high / 2 - door * 0.9, front - 0.02), (door, door * 1.8, 0.01), 2, 4))
    if p.has(0.4):
        solids.append(box((wide * 0.3, -high / 2 - 0.35, 0), (0.16, 0.6, 0.16), 1, 5))
    if p.has(0.3):
        wing = p.size(0.4, 0.8)
        side = wide / 2 + wing / 2
        solids += [
            box((side, high * 0.2, 0.05), (wing, high * 0.6, deep * 0.8), 0, 6),
            *_roof(p, wing, high * 0.6, deep * 0.8, side, high * 0.2),
        ]
    if p.has(0.25):
        tower = p.size(0.15, 0.4)
        top = high / 2 + p.size(0.3, 1.2)
        solids.append(Turned((-wide / 2, high / 2, -deep * 0.3), (-wide / 2, -top, -deep * 0.3), tower, tower, 0, 7))
        solids.append(
            Turned(
                (-wide / 2, -top, -deep * 0.3),
                (-wide / 2, -top - p.size(0.1, 0.7), -deep * 0.3),
                tower * 1.2,
                0.02,
                1,
                8,
            )
        )
    if p.has(0.3):
        solids += [
            Turned((x, high / 2, front - 0.12), (x, -high * 0.3, front - 0.12), 0.05, 0.05, 5, 9)
            for x in np.linspace(-0.4, 0.4, p.count(2, 6)) * wide
        ]
    return solids


def _roof(p: Parameters, wide: float, high: float, deep: float, x: float, y: float = 0.0) -> list[Solid]:
    rise, over = p.size(0.15, 0.9), p.level(1.0, 1.25)
    base = y - high / 2
    kind = p.choice(4, [0.15, 0.45, 0.3, 0.1])
    if kind == 1:
        gable = np.array([[-wide / 2 * over, 0], [wide / 2 * over, 0], [0, -rise]])
        return [Prism(gable, deep * 1.08, (x, base, 0), None, 1, 1)]
    if kind == 2:
        slope = np.array(
            [
                [-wide / 2 * over, 0],
                [wide / 2 * over, 0],
                [wide * p.level(0.2, 0.45), -rise],
                [-wide * p.level(0.2, 0.45), -rise],
            ]
        )
        return [Prism(slope, deep * 1.05, (x, base, 0), None, 1, 1)]
    if kind == 3:
        return [Ball((x, base, 0), (wide * 0.4, rise, deep * 0.4), 1, 1)]
    return [box((x, base - 0.04, 0), (wide * over, 0.1, deep * over), 1, 1)]


def vehicle(p: Parameters) -> list[Solid]:
    """A body on wheels with a cabin."""
    length, high, deep = p.size(0.9, 2.0), p.size(0.2, 0.6), p.size(0.4, 0.7)
    nose, cabin = p.level(0.0, 0.35), p.size(0.15, 0.6)
    front, back = p.level(0.1, 0.45), p.level(0.2, 0.5)
    profile = np.array(
        [
            [-length / 2, 0],
            [length / 2, 0],
            [length / 2, -high * p.level(0.5, 1.0)],
            [length * front, -high],
            [length * (front - 0.5 * nose - 0.05), -high - cabin],
            [-length * (back - 0.4 * nose), -high - cabin],
            [-length * back, -high],
            [-length / 2, -high],
        ]
    )
    glass = profile[3:7] * np.array([0.85, 1.0]) + np.array([0, 0.02])
    glass[1:3, 1] += 0.25 * cabin
    solids: list[Solid] = [Prism(profile, deep, (0, 0, 0), None, 0, 0)]
    solids += [Prism(glass, 0.01, (0, 0, side * (deep / 2 + 0.01)), None, 3, 1) for side in (-1, 1)]
    wheel, axles = p.size(0.12, 0.3), p.choice(5, [0.0, 0.25, 0.5, 0.15, 0.1])
    circle = _regular(18) * wheel
    for x in np.linspace(-0.34, 0.34, axles) * length if axles > 1 else [0.0]:
        for side in (-1, 1):
            solids += [
                Prism(circle, 0.1, (x, wheel * 0.2, side * deep / 2), None, 2, 2),
                Prism(circle * 0.5, 0.02, (x, wheel * 0.2, side * (deep / 2 + 0.07)), None, 5, 3),
            ]
    if p.has(0.3):
        solids.append(box((-length * 0.2, -high - cabin - 0.1, 0), (length * 0.4, 0.2, deep * 0.8), p.choice(3), 5))
    return solids


def flyer(p: Parameters) -> list[Solid]:
    """A hull with wings and a tail; or with a rotor; or a boat's hull with sails."""
    length, girth = p.size(0.9, 1.6), p.size(0.08, 0.25)
    solids: list[Solid] = [Limb((-length / 2, 0, 0), (length / 2, 0, 0), girth * p.size(0.4, 1.0), girth, 0, 0)]
    kind = p.choice(3)
    if kind == 2:
        hull_ = np.array([[-length / 2, -0.1], [length * 0.6, -0.1], [length * 0.4, 0.3], [-length * 0.4, 0.3]])
        mast = p.size(0.6, 1.5)
        sail = np.array([[0.04, -0.15], [0.04, -mast], [length * p.level(0.2, 0.55), -0.2]])
        solids = [
            Prism(hull_, 0.3, (0, 0, 0), None, 0, 0),
            Turned((0, 0, 0), (0, -mast, 0), 0.03, 0.02, 2, 1),
            Prism(sail, 0.02, (0, 0, 0), None, 1, 2),
        ]
        return [*solids, Prism(sail * np.array([-0.8, 0.9]), 0.02, (0, 0, 0), None, 5, 3)] if p.has(0.6) else solids
    span, sweep, chord = p.size(0.5, 1.3), p.level(-0.1, 0.7), p.size(0.12, 0.4)
    flat = rotation(0, np.pi / 2)
    for side in (-1, 1):
        wing = np.array(
            [[chord, 0], [-chord * 0.5, 0], [-chord * 0.5 - sweep, side * span], [chord * 0.2 - sweep, side * span]]
        )
        solids.append(Prism(wing, 0.04, (0.05, 0, 0), flat, 1, 1))
        tail = np.array([[0.1, 0], [-0.15, 0], [-0.3, side * span * 0.35], [-0.1, side * span * 0.35]])
        solids.append(Prism(tail, 0.03, (-length / 2, -0.02, 0), flat, 1, 2))
        if p.has(0.5):
            solids.append(Limb((0.2, 0.08, side * span * 0.4), (-0.1, 0.08, side * span * 0.4), 0.07, 0.06, 2, 3))
    solids.append(
        Prism(
            np.array([[0.15, 0], [-0.2, 0], [-0.3, -p.size(0.2, 0.5)], [-0.1, -p.size(0.2, 0.4)]]),
            0.03,
            (-length / 2, 0, 0),
            None,
            1,
            4,
        )
    )
    if kind == 1:
        solids.append(box((0.1, -girth - 0.12, 0), (length * 1.3, 0.03, 0.08), 2, 5))
    return [*solids, Ball((length * 0.35, -girth * 0.5, 0), (0.16, 0.12, 0.1), 3, 6)]


def furniture(p: Parameters) -> list[Solid]:
    """A seat, top or case on legs, with a back, arms, shelves or drawers."""
    wide, deep, leg = p.size(0.5, 1.6), p.size(0.4, 0.9), p.size(0.15, 0.9)
    thick, post = p.size(0.06, 0.4), p.size(0.03, 0.1)
    solids: list[Solid] = [box((0, 0, 0), (wide, thick, deep), 0, 0)]
    if p.has(0.75):
        for x in (-1, 1):
            for z in (-1, 1):
                splay = p.level(-0.05, 0.15)
                solids.append(
                    Turned(
                        (x * wide * 0.44, 0, z * deep * 0.42),
                        (x * (wide * 0.44 + splay), thick / 2 + leg, z * deep * 0.42),
                        post,
                        post * p.size(0.5, 1),
                        1,
                        1 + x + 2 * z,
                    )
                )
    else:
        solids += [
            Turned((0, 0, 0), (0, leg, 0), post, post, 1, 1),
            Turned((0, leg, 0), (0, leg + 0.05, 0), wide * 0.35, wide * 0.38, 1, 2),
        ]
    if p.has(0.6):
        back = p.size(0.3, 1.0)
        if p.has(0.5):
            solids.append(box((0, -back / 2, deep * 0.47), (wide, back, 0.07), p.choice(2), 6))
        else:
            bars = p.count(2, 5)
            solids += [
                box((x, -back / 2, deep * 0.47), (0.05, back, 0.05), 1, 6)
                for x in np.linspace(-0.47, 0.47, bars) * wide
            ]
            solids.append(box((0, -back, deep * 0.47), (wide, 0.1, 0.06), 1, 6))
    if p.has(0.3):
        solids += [box((side * wide * 0.5, -0.18, 0), (0.09, 0.25, deep), p.choice(2), 7 + side) for side in (-1, 1)]
    if p.has(0.3):  # a case
        high, doors = p.size(0.4, 1.4), p.count(1, 4)
        solids.append(box((0, -high / 2, 0), (wide, high, deep), 0, 9))
        for row in range(doors):
            y = -high * (row + 0.5) / doors
            solids += [
                box((0, y, -deep / 2 - 0.01), (wide * 0.88, high / doors * 0.8, 0.01), 1, 10),
                box((0, y, -deep / 2 - 0.03), (0.12, 0.03, 0.01), 2, 11),
            ]
    return solids


def vessel(p: Parameters) -> list[Solid]:
    """What a lathe or a potter makes: bottles, cups, lamps, bolts; with a handle, a label, a lid."""
    sections = p.count(2, 6)
    heights = np.concatenate([[0], np.cumsum([p.size(0.08, 0.6) for _ in range(sections)])])
    radii = np.array([p.size(0.06, 0.55) for _ in range(sections + 1)])
    if p.has(0.5):
        radii[1:-1] = (radii[:-2] + radii[2:]) / 2 + 0.3 * radii[1:-1]
    solids = lathe(np.stack([heights, radii], axis=1), material=0, group=0)
    if p.has(0.4):  # a handle
        reach, high = p.size(0.2, 0.5), heights[-1]
        edge = float(radii.max()) * 0.9
        corners = [
            (edge, 0.2 * high),
            (edge + reach, 0.25 * high),
            (edge + reach * 0.9, 0.65 * high),
            (edge, 0.75 * high),
        ]
        for a, b in pairwise(corners):
            solids.append(Limb((*a, 0), (*b, 0), 0.05, 0.05, p.choice(2), 1))
    if p.has(0.4):
        k = int(np.argmax(np.diff(heights)))
        top, bottom = heights[k] + 0.2 * (heights[k + 1] - heights[k]), heights[k] + 0.8 * (heights[k + 1] - heights[k])
        girth = 1.03 * max(radii[k], radii[k + 1])
        solids.append(Turned((0, top, 0), (0, bottom, 0), girth, girth, 1, 2))
    if p.has(0.3):
        solids.append(Turned((0, -p.size(0.05, 0.2), 0), (0, 0.02, 0), radii[0] * 1.1, radii[0] * 1.1, 2, 3))
    return solids


def instrument(p: Parameters) -> list[Solid]:
    """A long handle and a body: instruments with strings, tools, weapons, rackets, spoons."""
    neck, thick = p.size(0.6, 1.8), p.size(0.03, 0.12)
    outline = _body(p)
    deep = p.size(0.05, 0.3)
    solids: list[Solid] = [
        Prism(outline, deep, (0, 0.4, 0), None, 0, 0),
        box((0, -neck / 2, 0), (thick * 2, neck, thick), 1, 1),
    ]
    front = -deep / 2 - 0.01
    if p.has(0.5):
        solids.append(Prism(_regular(16) * p.size(0.06, 0.2), 0.01, (0, 0.3, front), None, 3, 2))
    if p.has(0.5):
        strings = p.count(1, 4)
        solids += [
            box((x, (0.6 - neck) / 2, front - 0.01), (0.012, neck + 0.6, 0.01), 5, 3)
            for x in np.linspace(-0.6, 0.6, strings) * thick
        ]
    if p.has(0.5):
        head = p.size(0.08, 0.3)
        tip = np.array(
            [[-head, 0], [head, 0], [head * p.level(0.2, 1.4), -head * 2], [-head * p.level(0.2, 1.4), -head * 2]]
        )
        solids.append(Prism(tip, thick, (0, -neck, 0), None, p.choice(3), 4))
    if p.has(0.4):
        solids.append(box((0, 0.6, front - 0.01), (0.3, 0.06, 0.02), 2, 5))
    return solids


def _body(p: Parameters) -> Array:
    """A closed outline, the same on both sides of its axis."""
    y = np.linspace(-1, 1, 14)
    waist, belly, power = p.level(0, 0.5), p.level(-0.5, 0.6), p.level(0.3, 0.9)
    half = np.power(1 - y**2, power) * (1 + belly * y) * (1 - waist * np.exp(-((y + 0.1) ** 2) / 0.08))
    high, wide = p.size(0.2, 0.7), p.size(0.15, 0.6)
    right = np.stack([wide * half, high * y], axis=1)
    return np.asarray(np.concatenate([right, (right * np.array([-1, 1]))[::-1]]))


def machine_part(p: Parameters) -> list[Solid]:
    """Gears, washers, brackets, bolts, springs, connectors."""
    return (_gear, _shaft, _bracket, _package)[p.choice(4)](p)


def _gear(p: Parameters) -> list[Solid]:
    """A wheel with teeth, holes and a hub; or a washer."""
    teeth, depth, size = p.count(3, 24), p.level(0.0, 0.35), p.size(0.5, 1.0)
    angles = np.linspace(0, 2 * np.pi, 4 * teeth, endpoint=False)
    radius = size * np.where(np.arange(4 * teeth) % 4 < 2, 1, 1 - depth)
    outline = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    solids: list[Solid] = [Prism(outline, p.size(0.1, 0.5))]
    front = -0.27
    holes, ring, hub = p.count(0, 8), p.level(0.4, 0.6) * size, p.size(0.1, 0.3)
    for number in range(holes):
        angle = 2 * np.pi * number / holes
        at = (ring * np.cos(angle), ring * np.sin(angle), front)
        solids.append(Prism(_regular(12) * 0.4 * hub, 0.01, at, None, 3, 1))
    return [
        *solids,
        Prism(_regular(16) * hub * 1.4, 0.1, (0, 0, front), None, 1, 2),
        Prism(_regular(16) * hub, 0.01, (0, 0, front - 0.06), None, 3, 3),
    ]


def _shaft(p: Parameters) -> list[Solid]:
    """A shaft in steps, with a head and a thread."""
    steps = p.count(1, 4)
    head = _regular(p.count(4, 8)) * p.size(0.2, 0.5)
    solids: list[Solid] = [Prism(head, p.size(0.1, 0.3), (0, -0.05, 0), rotation(0, np.pi / 2))]
    y = 0.0
    for number in range(steps):
        long, wide = p.size(0.15, 0.7), p.size(0.08, 0.3)
        solids.append(Turned((0, y, 0), (0, y + long, 0), wide, wide * p.level(0.7, 1.0), p.choice(2), 1 + number))
        if p.has(0.5):
            turns = np.arange(y, y + long, 0.09)
            solids += [Turned((0, t, 0), (0, t + 0.03, 0), wide * 1.08, wide * 1.08, 2, 10) for t in turns]
        y += long
    return solids


def _bracket(p: Parameters) -> list[Solid]:
    """A bent plate with holes."""
    wide, first, second, bend = p.size(0.3, 0.9), p.size(0.3, 1.0), p.size(0.3, 1.0), p.level(0.5, 2.2)
    thick = p.size(0.05, 0.15)
    corners = np.array([[-1, 0], [1, 0], [1, 2], [-1, 2]]) * np.array([wide, second]) / 2
    solids: list[Solid] = [
        box((0, -first / 2, 0), (wide, first, thick), 0, 0),
        Prism(corners, thick, tilt=rotation(0, bend), group=1),
    ]
    for number in range(p.count(1, 3)):
        hole = _regular(12) * p.size(0.05, 0.12)
        at = (p.level(-0.3, 0.3) * wide, -first * (number + 0.5) / 3, -thick / 2 - 0.01)
        solids.append(Prism(hole, 0.01, at, None, 3, 2))
    return solids


def _package(p: Parameters) -> list[Solid]:
    """A case with pins, as electronics have them."""
    case = p.size(0.5, 1.1), p.size(0.3, 0.9), p.size(0.15, 0.5)
    solids: list[Solid] = [box((0, 0, 0), case, 0, 0)]
    pins = p.count(2, 8)
    for x in np.linspace(-0.42, 0.42, pins) * case[0]:
        solids.append(Limb((x, case[1] / 2, 0), (x, case[1] / 2 + p.size(0.1, 0.6, spread=0.02), 0), 0.03, 0.02, 2, 1))
        if p.has(0.3):
            solids.append(Limb((x, -case[1] / 2, 0), (x, -case[1] / 2 - 0.25, 0), 0.03, 0.02, 2, 1))
    label = (case[0] * p.level(0.3, 0.8), case[1] * p.level(0.3, 0.7), 0.01)
    return [*solids, box((0, 0, -case[2] / 2 - 0.01), label, 1, 2)]


def contour(p: Parameters) -> list[Solid]:
    """Contours of random harmonics, one inside the other (Kataoka et al., 'Replacing labeled real-image datasets with
    auto-generated contours', CVPR 2022)."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones(40)
    for order in range(1, p.count(2, 9)):
        radius += p.level(-0.45, 0.45) / np.sqrt(order) * np.cos(order * angles + p.level(0, 6.3, spread=0.02))
    radius = np.abs(radius) + 0.05
    outline = np.stack([radius * np.cos(angles), p.size(0.4, 1) * radius * np.sin(angles)], axis=1)
    layers, shrink = p.count(1, 5), p.level(0.5, 0.85)
    return [
        Prism(outline * shrink**k, 0.3 if k == 0 else 0.01, (0, 0, -0.16 * (k > 0) - 0.01 * k), None, k % 4, k)
        for k in range(layers)
    ]


def sign(p: Parameters) -> list[Solid]:
    """Characters: on a board, or standing by themselves."""
    text = "".join(chr(33 + p.choice(90)) for _ in range(p.choice(4, [0.5, 0.25, 0.15, 0.1]) + 1))
    board = p.has(0.5)
    solids: list[Solid] = []
    masks = np.zeros((72, 48 * len(text) + 16), np.uint8)
    font = p.choice(7)
    cv2.putText(masks, text, (8, 54), font, 2.0, 255, p.count(2, 9), cv2.LINE_AA)
    contours, hierarchy = cv2.findContours(masks, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
    scale, middle = 1 / 48, np.array([masks.shape[1] / 2, 38])
    if board:
        wide, high = masks.shape[1] / 2 * scale * 1.1, 0.85
        shape = (
            np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]])
            if p.has(0.6)
            else _regular(p.choice(4) * 2 + 3) * max(wide, high) * 1.2
        )
        solids.append(Prism(shape, 0.1, (0, 0, 0.1), None, 0, 0))
    for outline, above in zip(contours, hierarchy[0] if hierarchy is not None else [], strict=True):
        if len(outline) >= 3:
            corners = (outline[:, 0] - middle) * scale
            inside = above[3] >= 0
            solids.append(
                Prism(
                    corners,
                    0.01,
                    (0, 0, -0.1 - 0.05 * inside),
                    None,
                    0 if inside and board else (5 if inside else 1),
                    2 + inside,
                )
            )
    return solids


def _regular(sides: int) -> Array:
    angles = np.linspace(0, 2 * np.pi, max(sides, 3), endpoint=False) + np.pi / 6
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
