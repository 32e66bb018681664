"""Formulas for what grows: creatures, people, faces, plants."""

from __future__ import annotations

import numpy as np

from benchmarks.pretrain.solids import Array, Ball, Limb, Prism, Solid, hull, rotation
from benchmarks.pretrain.variation import Parameters


def creature(p: Parameters) -> list[Solid]:
    """A body on legs with a neck, a head and a tail, seen from its side: x is forwards."""
    length, girth = p.size(0.7, 1.6), p.size(0.22, 0.5)
    leg, leg_girth = p.size(0.25, 1.1), p.size(0.04, 0.14)
    pairs = p.choice(4, [0.05, 0.2, 0.65, 0.1])
    hunch = p.level(-0.1, 0.15)
    front, back = np.array([length / 2, -girth * 0.2, 0]), np.array([-length / 2, hunch, 0])
    solids: list[Solid] = [
        Limb(back, front, girth * p.size(0.7, 1.2), girth, 0, 0),
        Ball((0, hunch * 0.5 + girth * p.level(0, 0.3), 0), (length * 0.5, girth * p.size(0.9, 1.25), girth), 0, 0),
    ]
    stride, upright = p.pose(-0.5, 0.5), pairs <= 1
    places = np.linspace(0.85, -0.85, pairs) * length / 2 if pairs > 1 else np.zeros(pairs)
    knee_bend = p.level(-0.25, 0.25)
    for number, x in enumerate(places):
        for side in (-1, 1):
            group = 2 + number * 2 + (side > 0)
            swing = 0.3 * stride * side * (-1) ** number + p.pose(-0.1, 0.1)
            hip = np.array([x, girth * 0.3, side * girth * 0.5])
            knee = np.array([x + leg * (swing + knee_bend) * 0.5, girth * 0.6 + leg * 0.5, side * girth * 0.6])
            foot = np.array([x + leg * swing, girth * 0.6 + leg, side * girth * 0.6])
            toes = foot + np.array([leg_girth * 0.6, 0, 0])
            solids += [
                Limb(hip, knee, leg_girth * 1.5, leg_girth, 0, group),
                Limb(knee, foot, leg_girth, leg_girth * 0.8, 0, group),
                Ball(toes, (leg_girth * 1.5, leg_girth * 0.8, leg_girth), 2, group),
            ]
    neck, angle = p.size(0.15, 1.3), p.level(0.2, 1.35) + p.pose(-0.2, 0.2) + (0.2 if upright else 0)
    head_at = front + neck * np.array([np.cos(angle), -np.sin(angle), 0])
    head = p.size(0.16, 0.42)
    solids.append(Limb(front, head_at, girth * p.size(0.4, 0.8), head * 0.6, 0, 0))
    solids += _animal_head(p, head_at, head)
    if p.has(0.8):
        solids += _tail(p, back)
    if p.has(0.2):
        solids.append(Ball((0, -girth * 0.8, 0), (length * 0.3, girth * p.size(0.4, 0.9), girth * 0.7), p.choice(3), 0))
    if p.has(0.25):  # wings
        reach = p.size(0.5, 1.3)
        for side in (-1, 1):
            tips = np.array([[0.2, 0], [-0.5, -0.1], [-0.3 - 0.3 * reach, -reach], [0.1, -0.8 * reach]])
            root, tilt = (0, -girth * 0.5, side * girth * 0.6), rotation(0.2, side * p.pose(0.3, 1.2))
            solids.append(Prism(tips, 0.02, root, tilt, 1, 20 + (side > 0)))
    return solids


def _tail(p: Parameters, at: Array) -> list[Solid]:
    tail, lift = p.size(0.15, 1.1), p.level(-1.2, 0.9) + p.pose(-0.3, 0.3)
    middle = at + 0.5 * tail * np.array([-np.cos(lift), -np.sin(lift), 0])
    tip = middle + 0.5 * tail * np.array([-np.cos(lift + 0.5), -np.sin(lift + 0.5), 0])
    thick = p.size(0.02, 0.12)
    return [
        Limb(at, middle, thick * 1.3, thick, 0, 1),
        Limb(middle, tip, thick, thick * p.size(0.4, 2.0), p.choice(2), 1),
    ]


def _animal_head(p: Parameters, at: Array, size: float) -> list[Solid]:
    nod = p.level(-0.4, 0.9) + p.pose(-0.15, 0.15)
    forwards = np.array([np.cos(nod), np.sin(nod), 0])
    snout = p.size(0.3, 2.0) * size
    solids: list[Solid] = [
        Ball(at, (size, size * p.size(0.75, 1.1), size * 0.8), 0, 10),
        Limb(at, at + forwards * (size * 0.5 + snout), size * 0.6, size * p.size(0.15, 0.55), p.choice(2), 10),
    ]
    if p.has(0.25):  # a trunk or beak, hanging or curled
        start, droop = at + forwards * (size * 0.6 + snout), p.level(0.2, 1.6)
        middle = start + p.size(0.2, 0.7) * np.array([np.cos(droop), np.sin(droop), 0])
        end = middle + p.size(0.1, 0.6) * np.array([np.cos(droop + 0.4), np.sin(droop + 0.4), 0])
        solids += [
            Limb(start, middle, size * 0.28, size * 0.2, 0, 10),
            Limb(middle, end, size * 0.2, size * 0.1, 0, 10),
        ]
    kind, ear = p.choice(4, [0.2, 0.3, 0.3, 0.2]), p.size(0.25, 1.5) * size
    for side in (-1, 1):
        root = at + np.array([-0.3 * size, -0.6 * size, side * 0.6 * size])
        solids += _ear(kind, root, ear, size, side)
        solids.append(Ball(at + np.array([0.4 * size, -0.25 * size, side * 0.62 * size]), [size * 0.12] * 3, 3, 14))
    if p.has(0.25):  # horns
        horn, bend = p.size(0.4, 2.0) * size, p.level(-0.5, 0.8)
        for side in (-1, 1):
            root = at + np.array([0, -0.8 * size, side * 0.3 * size])
            solids.append(Limb(root, root + horn * np.array([bend, -0.8, side * 0.4]), size * 0.14, size * 0.03, 2, 15))
    if p.has(0.2):  # a mane
        solids.append(
            Ball(at - np.array([0.5 * size, -0.3 * size, 0]), np.array([0.9, 1.3, 1.0]) * size * p.size(0.7, 1.2), 2, 0)
        )
    return solids


def _ear(kind: int, root: Array, ear: float, head: float, side: int) -> list[Solid]:
    """None, or one that is pricked, round or hanging."""
    group = 11 + (side > 0)
    if kind == 1:
        return [Limb(root, root + np.array([-0.2 * ear, -ear, side * 0.2 * ear]), head * 0.3, head * 0.06, 1, group)]
    if kind == 2:
        middle = root + np.array([-0.2 * ear, 0.3 * ear, side * 0.3 * ear])
        return [Ball(middle, (0.6 * ear, 0.8 * ear, 0.25 * ear), 1, group)]
    if kind == 3:
        return [Limb(root, root + np.array([-0.4 * ear, ear, side * 0.3 * ear]), head * 0.2, head * 0.3, 1, group)]
    return []


def person(p: Parameters) -> list[Solid]:
    """Somebody who walks, stands, sits or waves, with clothes, hair and something in the hand."""
    torso, hip, shoulder = p.size(0.5, 0.75), p.size(0.13, 0.24), p.size(0.17, 0.32)
    leg, arm, head = p.size(0.55, 1.0), p.size(0.5, 0.8), p.size(0.13, 0.26)
    lean = p.pose(-0.15, 0.15)
    chest, waist = np.array([lean, -torso, 0]), np.zeros(3)
    top, trousers, skin = 0, p.choice(2), 4
    solids: list[Solid] = [Limb(chest, waist, shoulder * 0.8, hip, top, 0)]
    if p.has(0.3):  # a skirt or coat
        solids.append(Limb((0, -0.1, 0), (0, leg * p.size(0.3, 0.8), 0), hip * 1.1, hip * p.size(1.3, 2.4), top, 0))
    action = p.choice(4)
    for side in (-1, 1):
        swing = p.pose(-0.5, 0.5) * (side if action else 0.3) + (1.3 if action == 3 else 0)
        bend = swing - (1.3 if action == 3 else p.pose(0, 0.4))
        knee = np.array([np.sin(swing) * leg / 2, np.cos(swing) * leg / 2, side * hip * 0.6])
        foot = knee + leg / 2 * np.array([np.sin(bend), np.cos(bend), 0])
        girth = p.size(0.06, 0.12, spread=0.05)
        solids += [
            Limb((0, 0, side * hip * 0.6), knee, girth * 1.3, girth, trousers, 1 + (side > 0)),
            Limb(knee, foot, girth, girth * 0.7, trousers, 1 + (side > 0)),
            Ball(foot + np.array([0.07, 0.02, 0]), (0.14, 0.06, 0.07), 2, 1 + (side > 0)),
        ]
        raised = p.pose(-0.6, 0.6) + (2.4 if action == 2 and side > 0 else 0)
        elbow = chest + np.array([np.sin(raised) * arm / 2, np.cos(raised) * arm / 2, side * (shoulder + 0.05)])
        fold = raised + p.pose(0.0, 1.2)
        hand = elbow + arm / 2 * np.array([np.sin(fold), np.cos(fold), 0])
        sleeve = p.choice(2)
        solids += [
            Limb(chest + np.array([0, 0.02, side * shoulder]), elbow, 0.085, 0.06, top, 3 + (side > 0)),
            Limb(elbow, hand, 0.06, 0.045, top if sleeve else skin, 3 + (side > 0)),
            Ball(hand, (0.06, 0.06, 0.05), skin, 3 + (side > 0)),
        ]
        if side > 0 and p.has(0.3):
            solids.append(
                Limb(hand - np.array([0, 0.3, 0]), hand + np.array([0.1, p.size(0.2, 0.8), 0]), 0.03, 0.03, 2, 9)
            )
    neck = chest - np.array([0, shoulder * 0.7 + head, 0])
    solids += [
        Limb(chest, neck, 0.08, 0.07, skin, 5),
        Ball(neck - np.array([0, head * 0.2, 0]), (head * 0.9, head * 1.15, head * 0.85), skin, 5),
    ]
    return solids + _hair(p, neck - np.array([0, head * 0.2, 0]), head)


def _hair(p: Parameters, at: Array, head: float) -> list[Solid]:
    kind = p.choice(4)
    solids: list[Solid] = []
    if kind:
        solids.append(
            Ball(at + np.array([-0.25 * head, -0.4 * head, 0]), (head * 0.95, head * 0.95, head * 0.95), 3, 6)
        )
    if kind == 2:
        solids.append(
            Limb(
                at - np.array([0.6 * head, 0, 0]),
                at + np.array([-0.7 * head, p.size(0.8, 3.0) * head, 0]),
                head * 0.7,
                head * 0.4,
                3,
                6,
            )
        )
    if kind == 3:
        solids.append(Ball(at - np.array([0, head * 0.9, 0]), (head * p.size(1.0, 1.9), head * 0.18, head * 1.3), 2, 7))
        solids.append(
            Limb(
                at - np.array([0, head * 0.9, 0]),
                at - np.array([0, head * p.size(1.1, 2.0), 0]),
                head * 0.8,
                head * 0.6,
                2,
                7,
            )
        )
    return solids


def face(p: Parameters) -> list[Solid]:
    """A head from the front: z is away, so features lie in front of it."""
    wide, high = p.size(0.6, 0.9), p.size(0.8, 1.15)
    solids: list[Solid] = [
        Limb((0, high * 0.6, 0.1), (0, high * 1.5, 0.3), wide * 0.5, wide * p.size(0.5, 0.9), 4, 0),
        Ball((0, high * 1.9, 0.4), (wide * 1.7, high * 0.6, 0.5), 0, 1),
        Ball((0, 0, 0), (wide, high, 0.7), 4, 2),
        Ball((0, high * 0.55, -0.1), (wide * p.size(0.5, 0.9), high * 0.4, 0.5), 4, 2),
    ]
    hair = p.choice(4)
    if hair:
        solids.append(Ball((0, -high * 0.35, 0.25), (wide * 1.12, high * 0.9, 0.75), 3, 3))
        solids.append(Ball((0, -high * 0.8, -0.25), (wide * 0.9, high * p.size(0.2, 0.45), 0.5), 3, 4))
    if hair == 2:
        for side in (-1, 1):
            solids.append(
                Limb((side * wide * 0.9, -0.3, 0.3), (side * wide, p.size(0.3, 1.5) * high, 0.4), 0.25, 0.2, 3, 3)
            )
    look = p.pose(-0.05, 0.05)
    gap, eye = p.level(0.26, 0.45), p.size(0.06, 0.17)
    brow = p.size(0.02, 0.06)
    for side in (-1, 1):
        solids += [
            Ball((side * gap, -0.1, -0.68), (eye * 1.3, eye * p.size(0.5, 1.0), 0.04), 5, 8),
            Ball((side * gap + look, -0.1, -0.73), (eye * 0.55, eye * 0.55, 0.03), 3, 9),
            Limb(
                (side * (gap - eye * 1.3), -0.33, -0.7),
                (side * (gap + eye * 1.3), -0.33 + p.pose(-0.08, 0.08), -0.66),
                brow,
                brow,
                3,
                10,
            ),
            Ball((side * wide, 0, 0.05), (0.12, 0.22, 0.1), 4, 1),
        ]
    nose = p.size(0.08, 0.2)
    solids += [Limb((0, -0.05, -0.7), (0, 0.25, -0.85), nose * 0.5, nose, 4, 11)]
    smile, open_ = p.pose(-0.1, 0.1), p.pose(0.02, 0.09)
    mouth = p.size(0.15, 0.35)
    for side in (-1, 1):
        solids.append(Limb((0, 0.52, -0.66), (side * mouth, 0.52 - smile, -0.62), open_, 0.02, 2, 12))
    if p.has(0.25):
        solids.append(Ball((0, 0.75, -0.45), (wide * 0.75, high * 0.4, 0.25), 3, 7))
    if p.has(0.2):
        solids += [Ball((side * gap, -0.08, -0.78), (0.2, 0.17, 0.02), 1, 13) for side in (-1, 1)]
    return solids


def plant(p: Parameters) -> list[Solid]:
    """Branches that fork, and leaves, needles or petals at their ends."""
    solids: list[Solid] = []
    depth, forks = p.count(1, 4), p.count(2, 3)
    spread, shrink, leaf = p.level(0.25, 0.8), p.level(0.55, 0.8), p.size(0.08, 0.4)
    girth, kind = p.size(0.03, 0.12), p.choice(3)

    def grow(at: Array, angle: float, length: float, radius: float, level: int) -> None:
        end = at + length * np.array([np.sin(angle), -np.cos(angle), p.pose(-0.3, 0.3)])
        solids.append(Limb(at, end, radius, radius * 0.7, 2, 0))
        if level == 0 or len(solids) > 60:
            solids.append(_leaf(p, end, angle, leaf, kind, len(solids)))
            return
        for number in range(forks):
            turned = angle + spread * (2 * number / max(forks - 1, 1) - 1) + p.pose(-0.2, 0.2)
            grow(end, turned, length * shrink, radius * 0.65, level - 1)

    if p.has(0.35):  # a flower
        petals, reach = p.count(4, 12), p.size(0.3, 0.7)
        solids.append(Limb((0, 1.2, 0), (p.pose(-0.2, 0.2), 0, 0.1), girth * 0.6, girth * 0.6, 1, 0))
        for number in range(petals):
            angle = 2 * np.pi * number / petals + p.pose(-0.05, 0.05)
            tip = reach * np.array([np.cos(angle), np.sin(angle), 0])
            solids.append(Limb((0, 0, 0), tip, 0.05, reach * 1.6 / petals, 0, 1 + number))
        solids.append(Ball((0, 0, -0.1), [reach * p.size(0.2, 0.5)] * 3, 3, 30))
        solids += [_leaf(p, np.array([0, 0.7, 0]), side * 1.2, 0.35, 0, 31) for side in (-1, 1)]
        return solids
    grow(np.array([0, 1.0, 0]), p.pose(-0.1, 0.1), p.size(0.4, 0.9), girth, depth)
    return solids


def _leaf(p: Parameters, at: Array, angle: float, size: float, kind: int, group: int) -> Solid:
    if kind == 0:
        return Limb(at, at + size * np.array([np.sin(angle), -np.cos(angle), 0]), size * 0.3, size * 0.08, 1, group)
    if kind == 1:
        return Ball(at, (size, size * 0.9, size), 1, 1)
    points = np.array([[0, 0], [-0.5, 0.8], [0.5, 0.8], [0, -0.4]]) * size * 1.3
    return Prism(hull(points), 0.01, at, rotation(0, 0, angle), 1, group)


def swimmer(p: Parameters) -> list[Solid]:
    """A spindle with fins, or a body with many arms."""
    if p.has(0.3):
        arms, reach = p.count(3, 9), p.size(0.5, 1.2)
        solids: list[Solid] = [Ball((0, -0.2, 0), (0.4, p.size(0.3, 0.7), 0.4), 0, 0)]
        for number in range(arms):
            angle = np.pi * (number + 0.5) / arms + p.pose(-0.15, 0.15)
            middle = np.array([np.cos(angle), 0.2 + 0.6 * np.sin(angle), p.pose(-0.2, 0.2)]) * reach * 0.6
            tip = middle * 1.6 + np.array([p.pose(-0.2, 0.2), p.pose(-0.1, 0.3), 0])
            solids += [Limb((0, 0, 0), middle, 0.14, 0.09, 0, 1 + number), Limb(middle, tip, 0.09, 0.03, 0, 1 + number)]
        return [*solids, *(Ball((side * 0.15, -0.2, -0.4), [0.07] * 3, 3, 20) for side in (-1, 1))]
    length, girth, bend = p.size(0.6, 1.4), p.size(0.12, 0.5), p.pose(-0.2, 0.2)
    tail = p.size(0.2, 0.6)
    fork = np.array(
        [[0, 0], [-tail, -tail * p.size(0.5, 1.2)], [-tail * p.level(0.3, 0.9), 0], [-tail, tail * p.size(0.5, 1.2)]]
    )
    fin = np.array([[0.2, 0], [-0.25, 0], [-0.3, -p.size(0.1, 0.5)]])
    solids = [
        Prism(fork, 0.02, (-length * 0.85, bend, 0), None, 1, 1),
        Prism(fin, 0.02, (p.level(-0.3, 0.3), -girth * 0.8, 0), None, 1, 2),
        Ball((0, 0, 0), (length * 0.7, girth, girth * 0.6), 0, 0),
        Limb((-length * 0.3, 0, 0), (-length * 0.9, bend, 0), girth * 0.7, 0.06, 0, 0),
        Limb((0, 0, 0), (length * 0.8, 0.02, 0), girth * 0.8, girth * p.size(0.1, 0.6), 0, 0),
        Ball((length * 0.55, -girth * 0.25, -girth * 0.5), [0.06] * 3, 3, 5),
    ]
    if p.has(0.6):
        solids.append(Prism(-fin, 0.02, (p.level(-0.3, 0.3), girth * 0.8, 0), None, 1, 3))
    if p.has(0.5):
        solids += [
            Limb((x, -girth, -girth * 0.3), (x, girth, -girth * 0.3), 0.04, 0.04, 2, 4)
            for x in np.linspace(-0.4, 0.4, p.count(2, 5)) * length
        ]
    return solids
