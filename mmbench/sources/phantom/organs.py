"""Organs of chest, abdomen and pelvis, visceral fat, and bowel in what is left."""

from __future__ import annotations

import numpy as np

from .canvas import Box, Field, Noise, ellipsoid
from .skeleton import Frame


class Organs:
    """Where the organs of one person lie: relative to the spine, the diaphragm and the inside of the wall."""

    def __init__(self, frame: Frame, rng: np.random.Generator) -> None:
        self.frame, self.canvas, self.traits = frame, frame.canvas, frame.traits
        self.size = frame.size
        self.loops = Noise(rng, 15.5), Noise(rng, 15.5)
        self.base = frame.outline.diaphragm
        right, left = (frame.outline.inner_radius(0.58, angle) for angle in (0, 180))
        front = frame.outline.inner_radius(0.58, 90)
        # Breathing leaves the right dome about two centimetres higher than the left one.
        self.right_dome, self.left_dome = 84 + self.traits.draw(5), 68 + self.traits.draw(6)
        x, y = self.canvas.x, self.canvas.y
        domes = [
            rise - 78 * ((x - side * 0.47 * wide) / (0.55 * wide)) ** 2 - 70 * ((y - back) / front) ** 2
            for side, rise, wide, back in ((1, self.right_dome, right, 4), (-1, self.left_dome, left, -4))
        ]
        # Between them lies the central tendon, with the heart on it.
        domes.append(
            self.left_dome - 8 - 60 * (x / (0.6 * right)) ** 2 - 62 * ((y - 0.2 * front) / front) ** 2
        )
        top = 9 * np.log(sum(np.exp(np.clip(dome, -120, 120) / 9) for dome in domes))
        self.dome = np.float32(self.base) + np.clip(top, -70, None)
        self.highest = float(self.dome.max()) + 5
        self.above = (self.canvas.z - self.dome) * np.float32(0.8)

    def at(self, level: float, x: float, y: float, rise: float = 0.0) -> tuple[float, float, float]:
        """Return a position relative to the spine at a level, in millimetres of a mean trunk."""
        centre = self.frame.spine_at(level)
        return centre[0] + x * self.size, centre[1] + y * self.size, centre[2] + rise * self.size

    def place_chest(self) -> None:
        """Heart and great vessels, airways, oesophagus and lungs."""
        frame, size = self.frame, self.size
        canvas, cavity, at = self.canvas, frame.cavity, self.at
        woman = frame.outline.person.woman
        scale = (0.92 if woman else 1.0) * size * float(np.exp(self.traits.draw(0.05)))

        def tube(tissue: str, points: list[tuple[float, float, float]], radii: list[float] | float) -> None:
            box, field = canvas.tube(points, radii)
            box.claim(tissue, np.minimum(field, box.of(cavity)))

        # Descending aorta left of the column, its arch at the fourth thoracic vertebra.
        aorta = [
            at(0.23, -3, 27),
            at(0.36, -9, 31),
            at(0.5, -10, 29),
            at(0.6, -14, 25),
            at(0.74, -23, 21),
            at(0.88, -24, 22),
        ]
        arch = [at(0.935, -18, 32), at(0.955, -4, 50), at(0.93, 12, 68), at(0.87, 16, 78), at(0.81, 8, 78)]
        tube("blood", aorta, [8.0, 8.8, 10.0, 11.0, 11.5, 12.0])
        tube("blood", [aorta[-1], *arch], [12.0, 13.0, 13.5, 15.0, 15.5, 14.0])
        tube(
            "blood",
            [
                at(0.22, 16, 24),
                at(0.36, 18, 28),
                at(0.5, 20, 34),
                at(0.6, 24, 42),
                at(0.68, 26, 50),
                at(0.74, 26, 58),
            ],
            [9.0, 10.0, 11.0, 12.0, 12.0, 13.0],
        )
        tube(
            "blood",
            [at(0.74, 26, 60), at(0.82, 32, 62), at(0.93, 28, 56), at(0.99, 26, 54)],
            [14.0, 10.0, 9.5, 8.0],
        )
        for side in (1, -1):
            tube(
                "blood",
                [
                    at(0.235, 5 * side + 4, 27),
                    at(0.17, 32 * side, 26),
                    at(0.10, 64 * side, 42),
                    at(0.04, 76 * side, 62),
                ],
                [7.0, 6.0, 5.5, 5.0],
            )
            tube(
                "blood",
                [at(0.94, 14 * side, 46), at(1.02, 22 * side, 34), at(1.09, 24 * side, 30)],
                [6.0, 4.5, 4.5],
            )
            tube(
                "lung",
                [at(0.885, 3 * side, 34), at(0.85, 26 * side, 30), at(0.82, 44 * side, 32)],
                [6.5, 6.0, 5.0],
            )
        tube("gas", [at(0.885, 1, 34), at(0.97, 1, 38), at(1.08, 0, 44)], 8.5)
        tube(
            "bowel",
            [at(0.61, -16, 40), at(0.7, -8, 28), at(0.85, -6, 24), at(1.0, -4, 22), at(1.08, -2, 22)],
            6.5,
        )
        # The heart's long axis points to the left, forward and down.
        foot = float(self.base + 0.62 * self.left_dome)
        middle = np.array(at(0.7, -26, 0))
        front = frame.outline.inner_radius(0.70, 90)
        centre = np.array([middle[0], front - 58 * scale, foot + 40 * scale], np.float32)
        box = canvas.box(*((c - 78 * scale, c + 78 * scale) for c in centre))
        x, y, z = box.x - centre[0], box.y - centre[1], box.z - centre[2]
        long = -0.66 * x + 0.50 * y - 0.56 * z
        across = 0.60 * x + 0.80 * y + 0.0 * z
        high = 0.45 * x - 0.34 * y - 0.83 * z
        limit = np.minimum(box.of(cavity) - 2, box.of(self.above) + 3)
        heart = np.minimum(ellipsoid(long, across, high, 68 * scale, 50 * scale, 48 * scale), limit)
        left = ellipsoid(
            long - 12 * scale, across + 18 * scale, high + 4 * scale, 46 * scale, 28 * scale, 30 * scale
        )
        box.claim("blood", np.minimum(left - 9.5, heart - 3))
        box.claim("heart", np.minimum(left, heart))
        right = ellipsoid(
            long + 4 * scale, across - 20 * scale, high - 2 * scale, 54 * scale, 24 * scale, 38 * scale
        )
        atria = ellipsoid(long + 44 * scale, across - 2 * scale, high, 24 * scale, 44 * scale, 40 * scale)
        box.claim("blood", np.minimum(np.maximum(right, atria) - 2, heart - 4))
        box.claim("heart", np.minimum(np.maximum(right, atria), heart - 2))
        fat = 2.0 + 0.45 * min(frame.outline.person.visceral_l, 9)
        box.claim("other_fat", np.minimum(heart + fat - 3, limit + 1))
        # Mediastinum: fat between the great vessels, behind the breastbone and about the gullet.
        t = frame.t
        spine_x, spine_y = frame.spine_x, frame.spine_y
        box = canvas.box((-70, 70), z=(self.base, np.inf))
        x, y = box.x - box.of(spine_x), box.y - box.of(spine_y)
        half = np.interp(box.of(t), [0.6, 0.75, 0.88, 0.97, 1.05], [30, 26, 33, 32, 24]).astype(
            np.float32
        ) * np.float32(size)
        waist = 1 - 0.62 * np.clip((y - 55 * size) / (40 * size), 0, 1)
        half = half * waist * np.sqrt(np.clip((y + 16) / 46, 0, 1))
        middle = np.minimum(half - np.abs(x + 3), box.of(self.above))
        box.claim("other_fat", np.minimum(middle, box.of(cavity) + 1))
        whole, t_all = frame.all, frame.t
        lung = np.minimum(np.minimum(cavity, self.above - 1.2), frame.outline.length * (1.045 - t_all))
        whole.claim("lung", lung)

    def place_abdomen(self) -> None:
        """Solid organs, stomach, colon, pelvis; then visceral fat of the drawn volume, and bowel."""
        frame, canvas, size, at, traits = self.frame, self.canvas, self.size, self.at, self.traits
        person = frame.outline.person
        cavity = frame.cavity
        base = self.base
        right, left = (frame.outline.inner_radius(0.56, angle) for angle in (0, 180))
        front = frame.outline.inner_radius(0.50, 90)

        self._liver(right, left, front)

        def blob(
            tissue: str,
            centre: tuple[float, float, float],
            radii: tuple[float, float, float],
            tilt: tuple[float, float] = (0, 0),
            margin: float = 2.0,
        ) -> tuple[Box, Field]:
            """Return a warped ellipsoid whose long axis z leans by ``tilt`` along x and y."""
            r = max(radii) + 8
            box = canvas.box(*((c - r, c + r) for c in centre))
            x, y, z = (
                box.x - np.float32(centre[0]),
                box.y - np.float32(centre[1]),
                box.z - np.float32(centre[2]),
            )
            x = x - np.float32(tilt[0]) * z + 3 * frame.warps[0](box)
            y = y - np.float32(tilt[1]) * z + 3 * frame.warps[1](box)
            field = ellipsoid(x, y, z, *radii)
            return box, np.minimum(field, np.minimum(box.of(cavity) - margin, -box.of(self.above) - margin))

        # Spleen: behind, against the left wall under the dome.
        angle = np.deg2rad(205 + traits.draw(4))
        reach = frame.outline.inner_radius(0.57, 210)
        z = base + 22 + traits.draw(6)
        box = canvas.box((-left - 10, -0.25 * left), (-200, 60), (z - 85, z + 85))
        spleen = -np.sqrt(
            ((box.x - np.float32(reach * 0.90 * np.cos(angle))) / 0.72) ** 2
            + ((box.y - np.float32(reach * 0.90 * np.sin(angle))) / 1.25) ** 2
            + ((box.z - np.float32(z)) / 1.45) ** 2
        )
        room = box.ramp(np.minimum(box.of(cavity), -box.of(self.above) - 1.2))
        box.claim_litres("spleen", "spleen", spleen, 0.19 * float(np.exp(traits.draw(0.28))), room)

        # Kidneys lean on psoas: upper poles towards the spine and the back; the right one lies lower.
        kidneys = []
        kidney = float(np.exp(traits.draw(0.05))) * (0.94 if person.woman else 1.0) * size**0.5
        for side, level in ((1, 0.425), (-1, 0.45)):
            angle = -38 if side > 0 else 218
            behind = frame.outline.inner_radius(level, angle)
            x = side * min(0.60 * behind, 66 * size)
            y = -np.sqrt(max(behind**2 - x**2, 0)) * 0.96 + 30 * size
            centre = (x + traits.draw(3), y + traits.draw(3), frame.height(level) + traits.draw(7))
            kidneys.append(centre)
            radii = (30 * kidney, 24 * kidney, 55 * kidney)
            box, field = blob("kidney", centre, radii, (-0.22 * side, -0.18))
            hilum = ellipsoid(
                box.x - np.float32(centre[0] - side * 17),
                box.y - np.float32(centre[1] + 7),
                box.z - np.float32(centre[2]),
                17.0 * kidney,
                9.0 * kidney,
                27.0 * kidney,
            )
            box.claim("visceral", np.minimum(hilum, field + 3))
            box.claim("kidney", field)
            ox, oy, oz = centre
            self._tube("blood", [(ox - side * 12, oy + 8, oz), at(level, 8 * side, 30)], 4.0)
        # Pancreas: from the duodenum before the column to the hilum of the spleen.
        head, tail = at(0.445, 36, 52), at(0.535, -74, 34)
        self._tube(
            "pancreas",
            [head, at(0.475, 14, 58), at(0.50, -16, 56), at(0.52, -48, 44), tail],
            [14.0, 11.5, 9.5, 9.5, 8.0],
        )
        # Stomach: fundus under the left dome behind, body to the front, antrum across the midline.
        full = float(np.exp(traits.draw(0.14)))
        stomach = [
            (-0.50 * left, 4 * size, base + 34),
            (-0.50 * left, 26 * size, base - 4),
            (-0.40 * left, 0.48 * front, base - 52),
            (-0.12 * left, 0.60 * front, base - 82),
            at(0.455, 30, 66),
        ]
        box, field = canvas.tube(stomach, [34 * full, 33 * full, 26 * full, 19.0, 13.0])
        field = np.minimum(field, np.minimum(box.of(cavity) - 2, -box.of(self.above) - 2))
        inner = field - 4
        box.claim("gas", np.minimum(inner, box.y - np.float32(0.48 * front)))
        box.claim("contents", inner)
        box.claim("bowel", field)
        self._colon(right, left, front)
        self._pelvis()
        self._fill(kidneys, front)

    def _tube(
        self, tissue: str, points: list[tuple[float, float, float]], radii: list[float] | float
    ) -> None:
        box, field = self.canvas.tube(points, radii)
        limit = np.minimum(box.of(self.frame.cavity) - 1, -box.of(self.above) - 2)
        box.claim(tissue, np.minimum(field, limit))

    def _liver(self, right: float, left: float, front: float) -> None:
        """Wedge under the right dome: its lower face rises to the left, and behind for the kidney."""
        frame, canvas, traits, size = self.frame, self.canvas, self.traits, self.size
        cavity = frame.cavity
        box = canvas.box((-0.85 * left, np.inf), z=(frame.height(0.22), np.inf))
        x = box.x + 4 * frame.warps[0](box)
        y = box.y + 4 * frame.warps[1](box)
        u = x * np.float32(1 / right)
        v = y * np.float32(1 / front)
        lean = 1 + traits.draw(0.12)
        # Height of the lower face above its lowest tip: it rises to the left, and behind for the kidney.
        lower = 122 * lean * (1 - u) - 26 * np.clip(v, -0.8, 0.9) + 46 * np.clip(-v - 0.15, 0, 1) * (u < 0.75)
        under = (box.z - np.float32(self.base) - np.float32(0.8) * lower) * np.float32(0.62)
        # Left of the midline a lobe lies before the stomach only.
        behind = 100 + 80 * np.clip(0.2 - u, 0, 1) - 190 * np.clip(u - 0.14, 0, 1)
        before = y - box.of(frame.spine_y) - behind * np.float32(size)
        fissure = 16 * np.exp(-(((x - 0.14 * right) / 6) ** 2)) * np.clip(v - 0.2, 0, 1)
        field = np.minimum(under - fissure, before)
        field = field - 8 * np.exp(-(((under - before) / 16) ** 2))
        # Gallbladder, portal and hepatic veins within.
        z = self.base
        self._tube(
            "fluid", [(0.36 * right, 0.52 * front, z - 26), (0.38 * right, 0.62 * front, z - 50)], [8.0, 13.0]
        )
        hilum = self.at(0.52, 26, 52)
        for end in (
            (0.45 * right, 12, z + 22),
            (0.62 * right, -25, z + 8),
            (0.12 * right, 0.45 * front, z + 26),
        ):
            self._tube("blood", [hilum, end], [5.5, 2.5])
        cava = self.at(0.66, 26, 48)
        for end in (
            (0.66 * right, -10, z + 40),
            (0.40 * right, 0.4 * front, z + 44),
            (-0.1 * right, 0.5 * front, z + 40),
        ):
            self._tube("blood", [cava, end], [5.0, 2.5])
        room = box.ramp(np.minimum(box.of(cavity), -box.of(self.above) - 1.2))
        box.claim_litres("liver", "liver", field, frame.outline.person.liver_l, room)

    def _colon(self, right: float, left: float, front: float) -> None:
        """The frame of the colon, with gas where it lies in front, and the rectum."""
        frame, canvas, at, traits = self.frame, self.canvas, self.at, self.traits
        h, inner = frame.height, frame.outline.inner_radius

        def wall(level: float, degrees: float, inset: float) -> tuple[float, float, float]:
            radius = inner(level, degrees) - inset
            a = np.deg2rad(degrees)
            return radius * np.cos(a), radius * np.sin(a), h(level) + traits.draw(5)

        sag = 0.05 * traits.draw()
        points = [
            wall(0.19, 28, 34),
            wall(0.27, 14, 30),
            wall(0.36, 6, 30),
            wall(0.42, 22, 34),
            wall(0.40 + 0.4 * sag, 60, 32),
            wall(0.36 + sag, 90, 30),
            wall(0.41 + 0.5 * sag, 122, 32),
            wall(0.50, 160, 34),
            wall(0.47, 182, 28),
            wall(0.36, 186, 26),
            wall(0.26, 176, 26),
            wall(0.19, 158, 30),
        ]
        sigmoid = [
            wall(0.15, 145, 42),
            wall(0.12, 115, 52),
            at(0.13, -6, 56),
            at(0.12, 6, 34),
            at(0.07, 0, 32),
            at(0.03, 0, 40),
        ]
        wide = 21 + traits.draw(1.5)
        radii = [
            wide + 6,
            wide + 5,
            wide + 2,
            wide,
            wide - 1,
            wide - 2,
            wide - 1,
            wide - 2,
            wide - 4,
            wide - 6,
            wide - 6,
            wide - 5,
        ]
        for path, width, gas in ((points, radii, 0.34), (sigmoid, [15.0, 16.0, 15.0, 15.0, 17.0, 15.0], 0.5)):
            box, field = canvas.tube(path, width)
            limit = np.minimum(box.of(frame.cavity) - 1.5, -box.of(self.above) - 2)
            # Haustra, about 35 mm apart.
            waves = np.sin((box.x + box.y * 0.7) * np.float32(0.18)) * np.sin(box.z * np.float32(0.18))
            field = np.minimum(field + 2.2 * waves, limit)
            lumen = field - 2.5
            box.claim("gas", np.minimum(lumen, box.y - np.float32(gas * front)))
            box.claim("contents", lumen)
            box.claim("bowel", field)

    def _pelvis(self) -> None:
        """Bladder, and uterus or prostate with the seminal vesicles."""
        frame, canvas, at, traits = self.frame, self.canvas, self.at, self.traits
        woman = frame.outline.person.woman
        filling = float(np.exp(traits.draw(0.18)))
        x, y, _ = at(0.06, 0, 0)
        front = frame.outline.inner_radius(0.06, 90)
        y = min(y + 92, front - 24 * filling)
        z = frame.height(0.05) + 8 * filling
        r = 50 * filling
        box = canvas.box((x - r, x + r), (y - r, y + r), (z - r, z + r))
        bladder = ellipsoid(
            box.x - np.float32(x),
            box.y - np.float32(y),
            box.z - np.float32(z),
            38 * filling,
            27 * filling,
            26 * filling,
        )
        bladder = np.minimum(bladder, box.of(frame.cavity))
        box.claim("fluid", bladder - 2.5)
        box.claim("bowel", bladder)
        if woman:
            lean = traits.draw(6)
            tilt = [
                (x + 0.3 * lean, y - 40, frame.height(0.05)),
                (x + lean, y - 30, frame.height(0.09)),
                (x + lean, y - 8, z + 34 * filling),
            ]
            self._tube("bowel", tilt, [13.0, 17.0, 20.0])
            for side in (1, -1):
                self._tube(
                    "fluid",
                    [
                        (x + side * 44, y - 34, frame.height(0.10)),
                        (x + side * 48, y - 33, frame.height(0.11)),
                    ],
                    [9.0, 9.0],
                )
        else:
            self._tube(
                "bowel",
                [
                    (x - 24, y - 36, frame.height(0.05)),
                    (x, y - 33, frame.height(0.045)),
                    (x + 24, y - 36, frame.height(0.05)),
                ],
                7.0,
            )

    def _fill(self, kidneys: list[tuple[float, float, float]], front: float) -> None:
        """Loops of small bowel, tubes along the curves on which two random fields vanish, in visceral fat."""
        frame, canvas = self.frame, self.canvas
        person, size = frame.outline.person, self.size
        box = canvas.box(z=(-50, self.highest))
        cavity = box.of(frame.cavity)
        away = np.hypot(self.loops[0](box), self.loops[1](box))
        t, y = box.of(frame.t), box.y - box.of(frame.spine_y)
        # Fat lies behind, about the kidneys, at the root of the mesentery, and beside the bladder.
        v = y * np.float32(1 / max(front, 60))
        fat = 15 * away - 12 * np.tanh((y - 60 * size) / 35) + 8 * np.clip(0.14 - t, 0, 0.1) * 10
        fat = fat + 10 * np.exp(-(((y - 48 * size) / 26) ** 2) - (box.x / 42) ** 2)
        fat = fat + 12 * np.clip((t - 0.46) / 0.1, 0, 1)
        for x, ky, z in kidneys:
            near = (
                ((box.x - np.float32(x)) / 52) ** 2
                + ((box.y - np.float32(ky)) / 46) ** 2
                + ((box.z - np.float32(z)) / 80) ** 2
            )
            fat += 26 * np.exp(-(near**1.5))
        room = box.ramp(-box.of(self.above) - 1.2)
        already = canvas.litres("visceral")
        box.claim_litres("visceral", "visceral", fat, max(person.visceral_l - already, 0.01), room)
        lumen = np.minimum(cavity - 3, -fat)
        free = box.litres(canvas.free[box.i, box.j, box.k] * room)
        box.claim_litres("contents", "contents", lumen, 0.5 * free, room)
        box.give("bowel", room)
        # What is left lies in the neck.
        frame.all.give("muscle", 1.0)
