"""People: how long, wide and thick their hands are, and how old they look.

Hand length of adults, wrist crease to middle fingertip: 2012 Anthropometric Survey of US Army Personnel (Gordon et
al., NATICK/TR-15/007, 2014): men 193 +- 10 mm, women 181.1 +- 10.1 mm (n = 1,986, computed from the public release).
Children: Snyder et al. 1977 (UM-HSRI-77-17), about 93 mm + 6 mm per year of age between 5 and 15, deviation 8 mm.
Proportions: in the same survey breadth over length varies by 4.9 % among women and palm over hand length by 3.1 %.
The latter is taken for the length of single fingers too; thickness and forearm spreads are assumptions of that size.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ADULT_HAND_LENGTH_MM = {"male": (193.0, 10.0), "female": (181.1, 10.1)}
CHILD_SHARE, ELDER_SHARE = 0.10, 0.17
ELDER_YEARS = 60.0
ORIGINS = ("african", "asian", "caucasian")
FINGER_LENGTH_CV, BREADTH_CV, THICKNESS_CV, PALM_DEPTH_CV, FOREARM_CV = 0.031, 0.049, 0.055, 0.05, 0.07


@dataclass(frozen=True, eq=False)
class Person:
    """What the shape of a hand depends on."""

    hand_length_m: float
    male: float                                 # 0 .. 1
    age_years: float
    muscle: float                               # 0 .. 1, 0.5 average
    weight: float                               # 0 .. 1, 0.5 average
    origins: np.ndarray                         # (3,) shares of ORIGINS, adds up to 1
    finger_length: np.ndarray                   # (5,) relative length of thumb..little, about 1
    finger_thickness: np.ndarray                # (5,)
    breadth: float                              # of the palm, relative
    depth: float                                # of the palm, relative
    forearm: float                              # thickness, relative


MEAN = Person(0.186, 0.5, 30.0, 0.5, 0.5, np.full(3, 1 / 3), np.ones(5), np.ones(5), 1.0, 1.0, 1.0)
"""The mean of men and women of working age."""


def sample(rng: np.random.Generator, grown: bool = False) -> Person:
    """One person at random: three quarters adults, the rest children from 5 and people over 60. grown: no children."""
    group = rng.uniform(CHILD_SHARE, 1.0) if grown else rng.random()
    sex = "male" if rng.random() < 0.5 else "female"
    if group < CHILD_SHARE:
        age = rng.uniform(5.0, 15.0)
        mean, spread = 93.0 + 6.0 * age, 8.0
    else:
        age = rng.uniform(ELDER_YEARS, 90.0) if group < CHILD_SHARE + ELDER_SHARE else rng.uniform(15.0, ELDER_YEARS)
        mean, spread = ADULT_HAND_LENGTH_MM[sex]
    length = mean + spread * float(np.clip(rng.standard_normal(), -3.0, 3.0))
    common = rng.standard_normal()
    fingers = 1.0 + FINGER_LENGTH_CV * np.clip(rng.standard_normal(5), -2.5, 2.5)
    thickness = 1.0 + THICKNESS_CV * np.clip(0.8 * common + 0.6 * rng.standard_normal(5), -2.5, 2.5)
    if rng.random() < 0.3:
        origins = np.eye(3)[rng.integers(3)]
    else:
        origins = rng.dirichlet(np.full(3, 0.7))
    male = rng.beta(2.0, 14.0)
    return Person(
        length / 1000.0, 1.0 - male if sex == "male" else male, float(age),
        float(np.clip(rng.normal(0.5, 0.22), 0.0, 1.0)), float(np.clip(rng.normal(0.5, 0.22), 0.0, 1.0)), origins,
        fingers, thickness,
        1.0 + BREADTH_CV * float(np.clip(0.4 * common + 0.9 * rng.standard_normal(), -2.5, 2.5)),
        1.0 + PALM_DEPTH_CV * float(np.clip(0.6 * common + 0.8 * rng.standard_normal(), -2.5, 2.5)),
        1.0 + FOREARM_CV * float(np.clip(rng.standard_normal(), -2.5, 2.5)))
