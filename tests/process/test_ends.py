"""A command that is interrupted or fails says so, and marks nothing complete that is not."""

from __future__ import annotations

import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine

from search_spaces import SPACES
from study.cluster.joining import check_address, joined_address
from study.cluster.placing import Running
from study.folds import Fold
from study.lopo import ray_tasks as folding
from study.lopo.fold_files import run_to_file
from study.lopo.jobs import Job, Schedule, rows_of
from study.process import ends, home
from study.process.cores import usable_cores
from study.starts import read_start
from study.sweep.finalists import choose
from study.sweep.journal import Tried, read_journal
from study.sweep.optuna_storage import Mirror
from study.sweep.ray_search import TuneSearch
from study.sweep.recorder import BlockRecord, Recorder
from study.sweep.search import BlockSearch
from study.tracking import runs as tracking
from tests.process.interrupts import interrupt, prepare, states
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.fitting import Diverged, build_net, fit, predict
from trainables.fold import FoldResult
from trainables.memory import lacking_memory
from trainables.trial import WORST_MAE, score_fold

CONFIG = TrialConfig(backbone="resnet18", px=32, epochs=1, batch=16)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def faces(place) -> Faces:
    return load_faces([place / "people"], px=32)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_a_command_imports_is_one_line_and_130(place, name):
    number = getattr(signal, name)

    def listens(pid: int) -> bool:  # for SIGTERM, which Python itself does not handle
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
        return caught is not None and bool(int(caught[1], 16) & 1 << (signal.SIGTERM - 1))

    seen = interrupt(place, "faces", number, after=60, group=False, until=listens)
    assert (seen.status, seen.wrong) == (130, ())
    assert seen.stderr == "python -m study.faces: interrupted; the same command continues where it stopped\n"


def test_a_sweep_that_is_cut_short_leaves_no_choice_and_no_open_run(tmp_path):
    """In the middle of a trial; the signal goes to Ray's processes too, as from a terminal."""
    prepare(tmp_path)

    def trial_runs(_: int) -> bool:
        return any(not name.startswith("sweep ") for name, _ in states(tmp_path))

    seen = interrupt(tmp_path, "sweep", signal.SIGINT, group=True, after=600, until=trial_runs)
    assert (seen.status, seen.wrong) == (130, ())
    assert dict(states(tmp_path))["sweep mean_variance"] == "KILLED"
    assert not list(tmp_path.glob("runs/sweeps/*/best.json"))


def test_a_signal_does_not_cut_in_two_what_is_held(monkeypatch):
    handlers: list = []
    monkeypatch.setattr(ends, "_set", handlers.append)
    monkeypatch.setattr(ends, "_handler", print)
    monkeypatch.setattr(ends, "_begun", threading.Event())
    monkeypatch.setattr(ends, "_insist", lambda prog: None)
    monkeypatch.setattr(ends, "_listening", [])
    ends.listen("command")
    done = []
    with pytest.raises(KeyboardInterrupt), ends.held(), ends.held():  # noqa: PT012
        handlers[0]()
        done.append("all of it")
    assert done == ["all of it"]
    handlers[0]()  # a second signal does not interrupt the clean-up
    assert ends.interrupted()


def test_a_command_within_another_one_leaves_the_signals_to_it(monkeypatch, capfd):
    """study.tour runs the stages in its process: a signal between two of them must not end it as if it were done."""
    handlers: list = []
    monkeypatch.setattr(ends, "_set", handlers.append)
    monkeypatch.setattr(ends, "_handler", print)
    monkeypatch.setattr(ends, "_listening", [])
    ends.listen("python -m study.tour")
    ends.listen("python -m study.align")
    ends.say("python -m study.align")
    assert capfd.readouterr().err.startswith("python -m study.tour: interrupted")
    ends.listen_no_more(0)
    assert len(handlers) == 1
    ends.listen_no_more(0)
    assert len(handlers) == 2


def test_a_signal_within_a_write_to_mlflow_comes_after_it(tmp_path, monkeypatch):
    """Cut in two, a transaction may keep SQLite's lock, and closing the runs would wait for it."""
    handlers: list = []
    monkeypatch.setattr(ends, "_set", handlers.append)
    monkeypatch.setattr(ends, "_handler", print)
    monkeypatch.setattr(ends, "_begun", threading.Event())
    monkeypatch.setattr(ends, "_insist", lambda prog: None)
    monkeypatch.setattr(ends, "_listening", [])
    store = tracking.connect(home=tmp_path)
    parent = tracking.find_or_start(store, key="parent", name="lopo", stage="lopo")
    ends.listen("command")
    words: list[str] = []

    def interrupt_first(_connection, _cursor, statement: str, *_: object) -> None:
        words.append(statement.split()[0])
        if words.count("INSERT") == 1:
            handlers[0]()

    event.listen(Engine, "after_cursor_execute", interrupt_first)
    try:
        with pytest.raises(KeyboardInterrupt):
            tracking.find_or_start(store, key="a", name="a", stage="fold", parent=parent, tags={"a": "b"})
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt_first)
    assert words.count("INSERT") > 1
    assert tracking.children(store, parent)["a"][1] == "RUNNING"
    ends.close("KILLED")
    assert tracking.children(store, parent)["a"][1] == "KILLED"


def test_what_is_open_when_a_command_fails_is_closed(tmp_path):
    store = tracking.connect(home=tmp_path)
    parent = tracking.find_or_start(store, key="parent", name="lopo", stage="lopo")
    done = tracking.find_or_start(store, key="a", name="a", stage="fold", parent=parent)
    tracking.find_or_start(store, key="b", name="b", stage="fold", parent=parent)
    tracking.finish(store, done)
    ends.close("KILLED")
    assert {key: status for key, (_, status) in tracking.children(store, parent).items()} == {
        "a": "FINISHED",
        "b": "KILLED",
    }
    assert store.client.get_run(parent).info.status == "KILLED"


def test_statistics_that_are_no_numbers_end_a_training_whose_loss_is_one(faces):
    state = dict(build_net(CONFIG).state_dict())
    state["network.bn1.running_mean"] = torch.full_like(state["network.bn1.running_mean"], float("nan"))
    rows = np.arange(32)
    with pytest.raises(Diverged, match="are not finite after epoch"):
        fit(CONFIG.replace(weights="given", ema=0.0), faces, rows, initial=state)
    reports: list[dict] = []
    score_fold(CONFIG, faces, rows, np.arange(32, 40), initial=state, report=reports.append)
    assert (reports[-1]["state"], reports[-1]["mae"]) == ("diverged", WORST_MAE)
    net = build_net(CONFIG)
    net.load_state_dict(state)
    with pytest.raises(Diverged, match="px are not finite"):
        predict(CONFIG, net, faces, rows)


def test_a_fold_without_an_answer_fails_with_its_reason_and_the_others_go_on(faces, tmp_path, monkeypatch, one_ray):
    people = faces.people[:3]
    folds = [Fold(name, np.flatnonzero(faces.person != name), np.flatnonzero(faces.person == name)) for name in people]
    jobs = [Job(fold, CONFIG, "key", tmp_path / "key" / "folds" / f"{i}.parquet") for i, fold in enumerate(folds)]
    even = np.full((5, CONFIG.ages), 1 / CONFIG.ages, np.float32)
    broken = np.full((5, CONFIG.ages), np.nan, np.float32)

    def diverge() -> None:
        raise Diverged("the loss became nan")

    def begin(missing: list, *_: object) -> dict:
        results = [FoldResult(each, each.mean(axis=1), [], 1.0, {}) for each in (even, broken)]
        write = ray.remote(run_to_file)
        files = [
            write.remote(lambda result=result: result, rows_of(job, faces))
            for result, job in zip(results, missing[1:], strict=True)
        ]
        return dict(zip([ray.remote(diverge).remote(), *files], missing, strict=True))

    monkeypatch.setattr(folding, "_start_plain", begin)
    store = tracking.connect(home=tmp_path / "mlruns")
    parent = tracking.find_or_start(store, key="lopo", name="lopo", stage="lopo")
    starts = {("resnet18", "random"): read_start("resnet18", "random")}
    failed = dict(folding.run_jobs(jobs, {32: faces}, starts, store, parent, Schedule("plain", 1, 1, 0.0), Running()))
    assert failed.keys() == {people[0], people[2]}
    assert failed[people[0]] == "the loss became nan"
    assert "are not a number" in failed[people[2]]
    assert [job.file.is_file() for job in jobs] == [False, True, False]
    tracking.finish(store, parent)


def test_a_trial_whose_mae_is_no_number_is_never_chosen(tmp_path):
    store = tracking.connect(home=tmp_path / "mlruns")
    parent = tracking.find_or_start(store, key="sweep", name="sweep", stage="sweep")
    search = BlockSearch(
        SPACES["small"], CONFIG, {}, trials=2, folds=1, lag=1, seed=0, pretrained={}, prune=0.1
    )  # fmt: skip
    block = BlockRecord("all", tmp_path / "all", search, Mirror(tmp_path, "all", SPACES["small"], CONFIG))
    record = Recorder([block], store, parent=parent, key="sweep")
    tuning = TuneSearch({"all": search}, record)
    for number, years in ((0, float("nan")), (1, 9.0)):
        trial = SimpleNamespace(config=tuning.suggest(str(number)), trial_id=str(number))
        record.on_trial_start(0, [], trial)
        row = {
            "epoch": 1,
            "fold": 0,
            "state": "complete",
            "mae": years,
            "people": {"a": years},
            "predicted": {0: years},
        }
        record.on_trial_result(0, [], trial, row)
        record.on_trial_complete(0, [], trial)
    assert tuning.suggest("2") == "FINISHED"
    journal = search.journal
    assert read_journal(tmp_path / "all") == journal
    assert (journal[0].state, journal[0].mae, journal[0].people) == ("diverged", WORST_MAE, {})
    left = {0: replace(journal[0], state="complete", mae=float("nan")), 1: journal[1]}
    # a kill between the journal and MLflow: the next start ends the trial's run
    run = tracking.children(store, parent)["sweep-all-1"][0]
    store.client.update_run(run, status="RUNNING")
    Recorder([block], store, parent=parent, key="sweep").make_good()
    assert sorted(status for _, status in tracking.children(store, parent).values()) == ["FAILED", "FINISHED"]
    chosen = choose(left, [], most=2, seeds=0, photos={"a": 1})
    assert chosen is not None
    assert chosen.tried.number == 1
    tracking.finish(store, parent)


def test_finalists_are_compared_over_equal_seeds():
    def tried(number: int, mae: float | None, repeat: int = 0) -> Tried:
        state = "complete" if mae is not None else "failed"
        return Tried(number, state, CONFIG.to_json(), {}, mae, repeat=repeat)

    journal = {0: tried(0, 4.0), 1: tried(1, 5.0), 2: tried(2, 5.5)}
    finals = [tried(0, None, 1), tried(1, 8.0, 1), tried(2, 6.0, 1)]
    winner = choose(journal, finals, most=3, seeds=1, photos={})
    assert winner is not None
    assert (winner.tried.number, winner.mae, winner.seeds) == (2, 5.75, 2)
    nobody = choose(journal, [tried(number, None, 1) for number in journal], most=3, seeds=1, photos={})
    assert nobody is not None
    assert (nobody.tried.number, nobody.mae, nobody.seeds) == (0, 4.0, 1)


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        ("could not create a primitive", True),
        ("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", True),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_too_little_memory_is_known_by_all_its_names(text, lacking):
    assert (lacking_memory(RuntimeError(text)) is not None) == lacking


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8265", "ray job submit"),
        ("ray://127.0.0.1:10001", "run this command on a machine of the cluster"),
        ("anything", "no address of a Ray cluster"),
        ("host:port", "no address of a Ray cluster"),
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
    ],
)
def test_an_address_at_which_no_cluster_is_is_told_at_once(address, expected, monkeypatch):
    began = time.monotonic()
    with pytest.raises((ValueError, ConnectionError), match=expected):
        check_address(address)
    assert time.monotonic() - began < 15
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert joined_address(None) == address
    assert joined_address("local") is None


def test_a_cgroups_quota_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert usable_cores(root=tmp_path) == 16
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("12:cpu,cpuacct:/none\n0::/system.slice/job/step\n")
    group = tmp_path / "sys/fs/cgroup/system.slice/job"
    (group / "step").mkdir(parents=True)
    (group / "step/cpu.max").write_text("max 100000\n")
    assert usable_cores(root=tmp_path) == 16
    (group / "cpu.max").write_text("350000 100000\n")
    assert usable_cores(root=tmp_path) == 3
    (group / "step/cpu.max").write_text("50000 100000\n")
    assert usable_cores(root=tmp_path) == 1


def test_who_has_no_name_and_no_home_is_given_both(monkeypatch, tmp_path):
    def nobody(*_: object) -> None:
        raise RuntimeError("Could not determine home directory.")

    def nameless() -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(home.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(home.getpass, "getuser", nameless)
    with monkeypatch.context() as lost:
        lost.setattr(home.Path, "home", nobody)
        for variable in ("HOME", "USER"):
            monkeypatch.setenv(variable, "")
        home.ensure_home()
    (folder,) = tmp_path.iterdir()
    assert (home.os.environ["HOME"], folder.stat().st_mode & 0o777) == (str(folder), 0o700)
    assert home.os.environ["USER"].startswith("user")
    assert home.is_writable_home()
