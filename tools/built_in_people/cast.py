"""Who is photographed, at which ages, and how often: the two datasets before anything is rendered.

Every picture has a seed of its own, made of the dataset's seed, the person and the photo: each can be rendered alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from tools.built_in_people.hair import CUTS, Cut
from tools.built_in_people.head import Build, draw_build
from tools.built_in_people.skin import Complexion, draw_complexion

DECADES = (371, 339, 144, 79, 46, 15, 8)  # photos with ages 0-9, 10-19, ..., 60-69, as FG-NET counts them
FEWEST, MOST = 6, 18  # photos a person
_PERSON, _PHOTO, _PLAN = range(3)  # branches of the seed

_SHORT = ("buzz", "crop", "caesar", "parting", "quiff", "back", "mop")
_LONG = ("bob", "bangs", "long", "tied", "mop", "parting", "back")


@dataclass(frozen=True)
class Person:
    build: Build
    complexion: Complexion
    cuts: tuple[str, ...]  # the hairstyles this person wears, the favourite first


@dataclass(frozen=True)
class Sitting:
    """One photo to be taken."""

    name: str  # of the file
    person: int  # people: 1..82; strangers: 1001 and on
    shot: int  # counts a person's photos
    age: int  # years


@cache
def person(seed: int, number: int) -> Person:
    """The person of a number, the same at every age."""
    random = np.random.default_rng([seed, _PERSON, number])
    build = draw_build(random)
    complexion = draw_complexion(build, random)
    likely = list(_SHORT if build.male > 0.5 else _LONG)
    if complexion.curl > 0.35:
        likely += ["curls", "round", "round"]
    cuts = random.choice(likely, 3)
    return Person(build, complexion, tuple(str(name) for name in cuts))


def luck(seed: int, sitting: Sitting) -> np.random.Generator:
    """The random numbers of one photo."""
    return np.random.default_rng([seed, _PHOTO, sitting.person, sitting.shot])


def cut_of(who: Person, random: np.random.Generator) -> Cut:
    """What the hair is like on a photo: mostly the favourite cut."""
    return CUTS[str(random.choice(who.cuts, p=(0.6, 0.25, 0.15)))]


def _decade_ages(random: np.random.Generator) -> list[int]:
    """The ages of all people's photos: exact in their decades, ever fewer with the years within one, oldest first."""
    ages: list[int] = []
    for decade, count in enumerate(DECADES):
        slope = 0.0 if decade == 0 else 0.07
        odds = 1 - slope * np.arange(10)
        ages += (10 * decade + random.choice(10, count, p=odds / odds.sum())).tolist()
    return sorted(ages, reverse=True)


def _share_out(
    ages: list[int], quota: np.ndarray, first: np.ndarray, last: np.ndarray, random: np.random.Generator
) -> list[list[int]]:
    """The ages dealt to people: near each one's span from `first` to `last`, the same age seldom twice.

    Dealt at random, then improved by swaps, since the decades' counts must come out exactly.
    """
    deck = random.permutation(ages)
    hands = [hand.tolist() for hand in np.split(deck, np.cumsum(quota)[:-1])]

    def cost(k: int, hand: list[int]) -> float:
        outside = sum(max(first[k] - age, 0) + max(age - last[k], 0) for age in hand)
        return float(outside) + 1.5 * (len(hand) - len(set(hand)))

    costs = [cost(k, hand) for k, hand in enumerate(hands)]
    for _ in range(60_000):
        j, k = (int(hand) for hand in random.choice(len(hands), 2, replace=False))
        a, b = random.integers(len(hands[j])), random.integers(len(hands[k]))
        one, other = hands[j].copy(), hands[k].copy()
        one[a], other[b] = other[b], one[a]
        new = cost(j, one), cost(k, other)
        if sum(new) <= costs[j] + costs[k]:
            hands[j], hands[k] = one, other
            costs[j], costs[k] = new
    return hands


@cache
def people(seed: int, persons: int = 82) -> tuple[Sitting, ...]:
    """The 1,002 photos of 82 people in FG-NET's naming, sorted by name; `persons` keeps the first so many people.

    A person is photographed over a span of years: mostly from childhood on, some as adults only.
    """
    random = np.random.default_rng([seed, _PLAN])
    total, everyone = sum(DECADES), 82
    quota = np.clip(np.rint(random.normal(total / everyone, 3, everyone)).astype(int), FEWEST, MOST)
    while quota.sum() != total:
        chosen, step = random.integers(everyone), int(np.sign(total - quota.sum()))
        quota[chosen] = np.clip(quota[chosen] + step, FEWEST, MOST)
    last = np.sort(
        np.concatenate([random.integers(14, 30, 38), random.integers(28, 50, 34), random.integers(50, 70, 10)])
    )
    random.shuffle(last)
    first = np.where(
        random.uniform(size=everyone) < 0.14, random.integers(12, 22, everyone), random.integers(0, 4, everyone)
    )
    first = np.minimum(first, last - 12)
    taken = _share_out(_decade_ages(random), quota, first, last, random)
    sittings = []
    for k, ages in enumerate(taken[:persons]):
        seen: dict[int, int] = {}
        for shot, age in enumerate(sorted(ages)):
            letter = "abcdefgh"[seen.get(age, 0)] if ages.count(age) > 1 else ""
            seen[age] = seen.get(age, 0) + 1
            sittings.append(Sitting(f"{k + 1:03d}A{age:02d}{letter}.JPG", k + 1, shot, age))
    return tuple(sorted(sittings, key=lambda sitting: sitting.name))


def strangers(seed: int, count: int) -> list[Sitting]:
    """`count` photos of as many other people, in UTKFace's naming: ages 0-90, two fifths more below 30."""
    sittings = []
    for k in range(count):
        random = np.random.default_rng([seed, _PLAN, 1 + k])
        age = int(random.integers(0, 91) if random.uniform() < 0.68 else random.integers(0, 31))
        build = person(seed, 1001 + k).build
        african, asian, caucasian = build.ancestry
        race = 0 if caucasian > 0.6 else 1 if african > 0.6 else 2 if asian > 0.6 else 4
        name = f"{age}_{int(build.male < 0.5)}_{race}_20260101{k:09d}.jpg.chip.jpg"
        sittings.append(Sitting(name, 1001 + k, 0, age))
    return sittings
