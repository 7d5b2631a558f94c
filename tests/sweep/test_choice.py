"""The optimism gap against a truth that is known; finalists; fronts; what the report says of a choice."""

from __future__ import annotations

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
from PIL import Image

from study.artifacts.choice import AppliedChoice, Choice, FrontPoint, NetworkTried
from study.artifacts.predictions import Predictions
from study.artifacts.records import plain_json, read_record
from study.report.choice import choice_table, sentences
from study.sweep.finalists import choose, finalists
from study.sweep.journal import Tried
from study.sweep.optimism import Errors, correct, describe_choice, errors_of, optimism
from study.sweep.pareto import cost_of, draw_front, front, front_table
from trainables.config import TrialConfig
from trainables.faces.table import Faces
from trainables.losses import MeanVariance


def world(seed: int, *, trials: int, people: int, apart: float) -> tuple[Errors, np.ndarray]:
    """Measured errors of trials on people, and each trial's true error: its mean over all people there could be."""
    rng = np.random.default_rng(seed)
    truth = 5 + apart * rng.normal(size=trials)
    mae = truth[:, None] + rng.normal(size=(trials, people))
    names = tuple(f"p{i}" for i in range(people))
    return Errors(tuple(range(trials)), names, mae, np.full(people, 3.0)), truth


@pytest.mark.parametrize("apart", [0.0, 0.3], ids=["luck alone", "some are better"])
def test_the_corrected_error_is_nearer_the_truth_than_the_least(apart):
    least, corrected, true = [], [], []
    for seed in range(60):
        errors, truth = world(seed, trials=12, people=40, apart=apart)
        found = correct(errors, draws=200)
        chosen = int(errors.mae.mean(axis=1).argmin())
        assert found.least == pytest.approx(errors.mae.mean(axis=1)[chosen])
        least.append(found.least)
        corrected.append(found.corrected)
        true.append(truth[chosen])
    claims_too_little = np.mean(true) - np.mean(least)
    left = np.mean(true) - np.mean(corrected)
    assert claims_too_little > 0.1, "the least of twelve is too low"
    assert abs(left) < 0.4 * claims_too_little


def test_one_trial_has_no_optimism_and_the_same_people_are_drawn_for_all_blocks():
    errors, _ = world(0, trials=1, people=30, apart=0.0)
    assert abs(correct(errors).gap) < 0.03
    alone, _ = world(1, trials=12, people=30, apart=0.0)
    twice = optimism([alone, alone], draws=200, outer=40)
    once = optimism([alone], draws=200, outer=40)
    assert astuple(twice) == pytest.approx(astuple(once)), "a block that is there twice says nothing new"
    assert once.gap_low < once.gap < once.gap_high
    assert once.gap > 0


def test_a_draw_without_a_block_s_people_says_nothing_of_it():
    """With four people a block, one draw in 256 has none of them."""
    mae = np.random.default_rng(0).normal(5, 1, (2, 3, 4))
    blocks = [
        Errors((0, 1, 2), tuple(names), each, np.full(4, 6.0))
        for names, each in zip(["abcd", "efgh"], mae, strict=True)
    ]
    told = optimism(blocks, draws=50, outer=600)
    assert np.isfinite(astuple(told)).all()


def test_photos_weigh_as_in_the_trials_own_mae():
    errors = Errors((0, 1), ("a", "b"), np.array([[1.0, 9.0], [4.0, 4.0]]), np.array([9.0, 1.0]))
    assert correct(errors, draws=50).least == pytest.approx((9 * 1 + 1 * 9) / 10)


CONFIG = TrialConfig(backbone="resnet18", px=32)


def tried(number: int, mae: float | None, *, state: str = "complete", repeat: int = 0, **changes) -> Tried:
    config = CONFIG.replace(**{k: v for k, v in changes.items() if hasattr(CONFIG, k)}, seed=repeat)
    rest = {k: v for k, v in changes.items() if not hasattr(CONFIG, k)}
    people = {"a": (mae or 0) - 0.5, "b": (mae or 0) + 0.5}
    return Tried(number, state, config.to_json(), {}, mae, people, repeat=repeat, **rest)


def test_finalists_are_decided_by_the_mean_over_seeds():
    journal = {n: tried(n, mae) for n, mae in enumerate((5.0, 4.0, 4.1, 4.2))} | {4: tried(4, 1.0, state="pruned")}
    assert [each.number for each in finalists(journal, 3)] == [1, 2, 3]
    assert finalists(journal, 1) == []
    again = [tried(1, 4.6, repeat=1), tried(2, 4.1, repeat=1), tried(3, 100.0, state="diverged", repeat=1)]
    photos = {"a": 2, "b": 2}
    chosen = choose(journal, again, most=3, seeds=1, photos=photos)
    assert chosen is not None
    assert (chosen.tried.number, chosen.seeds) == (2, 2)
    assert chosen.mae == pytest.approx(4.1)
    assert choose(journal, again, most=3, seeds=0, photos=photos).tried.number == 1, (
        "one seed decides where no more were asked for"
    )
    assert choose({}, [], most=3, seeds=1, photos={}) is None


def test_the_decoder_is_chosen_with_the_trial_over_the_same_seeds_and_by_photos():
    def with_decoders(number: int, repeat: int, **of_a: float) -> Tried:
        decoded = {name: {"a": years, "b": 5.0} for name, years in of_a.items()}
        return tried(number, decoded["expectation"]["a"] * 0.75 + 1.25, repeat=repeat, decoded=decoded)

    journal = {0: with_decoders(0, 0, expectation=4.0, median=3.0, argmax=9.0)}
    journal[1] = with_decoders(1, 0, expectation=3.6, median=3.9, argmax=2.0)
    again = [with_decoders(0, 1, expectation=4.0, median=3.2, argmax=9.0)]
    again.append(with_decoders(1, 1, expectation=3.8, median=3.9, argmax=8.0))
    chosen = choose(journal, again, most=2, seeds=1, photos={"a": 3, "b": 1})
    assert chosen is not None
    assert (chosen.tried.number, chosen.decoder, chosen.config.decoder) == (0, "median", "median")
    assert chosen.mae == pytest.approx((3.1 * 3 + 5.0) / 4)
    # each decoder counts in the correction for being the least of many
    rows = errors_of(journal, faces())
    assert rows.numbers == (0, 0, 0, 1, 1, 1)
    assert rows.mae[:, 0].tolist() == [4.0, 3.0, 9.0, 3.6, 3.9, 2.0]


def test_a_front_is_what_nothing_betters_in_both(tmp_path):
    costs = [(5.0, 100), (4.0, 300), (4.5, 200), (4.6, 250), (4.0, 400), (6.0, 50)]
    journal = {n: tried(n, mae, macs=macs * 10**6) for n, (mae, macs) in enumerate(costs)}
    journal[6] = tried(6, 1.0, state="pruned", macs=1)
    found = [each.number for each in front(journal, "macs")]
    better = [
        n
        for n, (mae, macs) in enumerate(costs)
        if not any(m <= mae and c <= macs and (m, c) != (mae, macs) for m, c in costs)
    ]
    assert sorted(found) == better
    assert found == [5, 0, 2, 1]
    assert front_table(journal, "macs").count("resnet18 32 px") == 4
    picture = draw_front(journal, "macs", tmp_path / "front.png", title="t")
    assert picture is not None
    assert np.asarray(Image.open(picture).convert("L")).std() > 5
    assert draw_front({0: journal[0]}, "macs", tmp_path / "none.png", title="t") is None


def test_a_networks_latency_is_its_least_disturbed_one():
    journal = {0: tried(0, 5.0, latency_ms=9.0), 1: tried(1, 4.0, latency_ms=3.0)}
    journal[2] = tried(2, 3.0, latency_ms=20.0, backbone="resnet34")
    assert [cost_of(journal, each, "latency_ms") for each in journal.values()] == [3.0, 3.0, 20.0]
    assert [each.number for each in front(journal, "latency_ms")] == [1, 2]


def faces() -> Faces:
    """Four photos: two of a, one of b, and a nameless one."""
    names = np.array(["a", "a", "b", ""])
    photo = np.array(["x/0", "x/1", "x/2", "x/3"])
    return Faces(np.zeros((4, 2, 2, 3), np.uint8), np.zeros(4, np.int16), names, photo, photo, "d")


def test_what_a_choice_says_is_plain_json_and_the_report_shows_it():
    journals = [{n: tried(n, mae, learning_rate=rate) for n, (mae, rate) in enumerate(points)} for points in (
        ((5.0, 1e-3), (4.0, 2e-3), (4.5, 3e-3), (6.0, 4e-3)),
        ((5.2, 1e-3), (4.1, 2e-3), (4.6, 3e-3), (6.1, 4e-3)),
    )]  # fmt: skip
    assert errors_of(journals[0], faces()).photos.tolist() == [2, 1]
    told = describe_choice(["one", "two"], journals, [journals[0][1], journals[1][2]], faces())
    assert read_record(Choice, json.loads(json.dumps(plain_json(told))), where="here") == told
    assert told.common_trials == 4
    assert told.rank_correlation == pytest.approx(1.0)
    assert told.spread["learning rate"] == (2e-3, 3e-3)
    assert told.spread["λ1"] == (MeanVariance().mean_weight,) * 2
    age = np.array([10, 20, 30], np.int16)
    predictions = Predictions(
        photo=np.array(["x/0", "x/1", "x/2"]), person=np.array(["a", "a", "b"]), age=age,
        predicted=(age + np.array([1, 3, 9])).astype(np.float32), distribution=np.full((3, 101), 1 / 101, np.float32),
        fold=np.array(["a", "a", "b"]), seed=np.zeros(3, np.int32), fingerprint=np.array(["t"] * 3),
    )  # fmt: skip
    choice = AppliedChoice(**vars(told), select="blocks", people={"one": ("a",), "two": ("b",)})
    rows = choice_table("x", choice, predictions).rows
    assert [row[0] for row in rows] == ["one", "two"]
    assert [row[-1] for row in rows] == ["2.00", "9.00"], "the LOPO error of each block's own people"
    first, second = sentences(choice)
    assert "None of it is in the LOPO error" in first
    assert f"an optimism of {told.optimism.gap:.2f} years" in first
    assert "all chose resnet18" in second
    assert "ρ = 1.00" in second
    networks = (
        NetworkTried("resnet18", "fair", 9, 20, 3.0, 4.0), NetworkTried("vgg16", "short", 1, 1, 7.0, None),
        NetworkTried("vgg19", "none", 0, 0, 0.0, None),
    )  # fmt: skip
    told_of = replace(told, networks=networks, front=(FrontPoint("one", 1, "resnet18", 32, 1e6, "MACs", 4.0),))
    assert read_record(Choice, json.loads(json.dumps(plain_json(told_of))), where="here") == told_of
    _, said, _ = sentences(AppliedChoice(**vars(told_of), select="blocks", people=choice.people))
    assert said.startswith("Of 3 networks 1 had a fair trial in every block")
    assert said.endswith(
        "pays for): resnet18. Tried too little to be judged: vgg16 (1 trials, 7 min). Not tried: vgg19."
    )
    assert "it is optimistic" in sentences(replace(choice, select="none"))[0]
