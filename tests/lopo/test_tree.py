"""The fold tree: nobody is ever seen by the model that is tested on them, and everybody else is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from study.cluster.placing import Running
from study.folds import lopo_folds
from study.lopo import ray_tasks as folding
from study.lopo.jobs import Job, Schedule
from study.lopo.ray_tasks import Shared
from study.lopo.tree import cost, fold_tree, lineage
from trainables.config import TrialConfig
from trainables.faces.table import load_faces


@pytest.fixture(scope="module")
def faces(make_table, tmp_path_factory):
    return load_faces([make_table(tmp_path_factory.mktemp("faces"), people=23, photos=5)], px=32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("replay", [0.0, 0.5])
def test_a_leafs_lineage_is_everybody_but_its_person(faces, seed, replay):
    nodes = fold_tree(faces, seed=seed, replay=replay)
    leaves = [index for index, node in enumerate(nodes) if node.test is not None]
    folds = {fold.name: fold for fold in lopo_folds(faces)}
    assert len(leaves) == len(folds) == 23
    for index in leaves:
        (person,) = nodes[index].held
        assert lineage(nodes, index).tolist() == folds[person].train.tolist()
        assert nodes[index].test.tolist() == folds[person].test.tolist()


def test_no_node_sees_whom_it_holds_out(faces):
    nodes = fold_tree(faces, seed=0, replay=1.0)
    for index, node in enumerate(nodes):
        assert not set(faces.person[lineage(nodes, index)]) & set(node.held)
        assert node.parent is None or (node.parent < index and set(node.held) < set(nodes[node.parent].held))


def test_it_costs_about_the_logarithm_of_the_number_of_people(faces):
    assert cost(fold_tree(faces, seed=0, replay=0.0), faces) <= np.log2(23) + 1
    assert cost(fold_tree(faces, seed=0, replay=0.25), faces) <= 1.26 * (np.log2(23) + 1)


def test_a_few_leaves_need_only_their_own_branches_and_train_on_the_same_photos(faces):
    whole = fold_tree(faces, seed=0, replay=0.5)
    wanted = faces.people[:2]
    some = fold_tree(faces, seed=0, replay=0.5, wanted=wanted)
    assert len(some) <= 2 * 6
    assert sorted(node.held[0] for node in some if node.test is not None) == wanted
    rows = {node.name: node.rows.tolist() for node in whole}
    assert all(node.rows.tolist() == rows[node.name] for node in some)
    assert all(set(node.held) < set(some[node.parent].held) for node in some if node.parent is not None)


@dataclass(eq=False)
class Noted:
    """A task that was started: its function and arguments."""

    function: str
    given: tuple


def test_each_leaf_descends_from_nodes_that_never_saw_its_person(faces, monkeypatch):
    """The tasks that a tree starts, with a starter that only notes what it is given."""
    monkeypatch.setattr(Running, "of", lambda _, function, **options: lambda *given: Noted(function.__name__, given))
    config = TrialConfig(backbone="resnet18", px=32)
    jobs = [Job(fold, config, "", Path(fold.name)) for fold in lopo_folds(faces)]
    shared = Shared({32: faces}, {(32,): "faces"}, {("resnet18", "random"): None})
    waiting = folding._start_tree(jobs, shared, Schedule("tree", 1, 1, 0.0), Running())
    assert sorted(job.fold.name for job in waiting.values()) == faces.people
    for leaf, job in waiting.items():
        assert leaf.function == "run_to_file"
        train, _, *given = leaf.given
        assert train is folding.run_fold
        assert given[4].tolist() == job.fold.test.tolist()
        rows, node = [given[3]], given[2]
        while node is not None:  # up to the root by the weights that were handed down
            rows.append(node.given[3])
            node = node.given[2]
        assert np.unique(np.concatenate(rows)).tolist() == job.fold.train.tolist()
