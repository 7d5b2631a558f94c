"""Saved views: what is written is read back, nothing is written twice, and two commands may write at once."""

from threading import Barrier, Thread

import pytest
from mlflow.exceptions import MlflowException

from study.plain import plain
from study.tracking import runs as tracking
from study.tracking.questions import question
from study.tracking.views import View, save, saved, set_tag, state_of

VIEW = View("results", "Results", "", "metrics.mae", ["metrics.mae", "params.backbone"])


def test_a_view_is_read_back_and_not_written_again():
    there = question(tracking.connect(), "of a test")
    save(there, [VIEW])
    tags = there.client.get_experiment(there.experiment).tags
    assert saved(tags) == {"results": ("Results", False)}
    save(there, [VIEW])
    assert there.client.get_experiment(there.experiment).tags == tags


@pytest.mark.parametrize("value", ["", "null", "[]", "{}", '{"state": 1}', '{"state": "deflate;AAAA"}', "x" * 99])
def test_a_tag_that_is_no_view_is_passed_over(value):
    assert state_of(value) == {}
    assert saved({"mlflow.sharedViewState.results": value}) == {}


def test_two_commands_may_create_the_same_tag_at_once():
    there = question(tracking.connect(), "of two commands")
    ready, failed = Barrier(4), []

    def write(number: int) -> None:
        for key in range(5):
            ready.wait()
            try:
                set_tag(there.client, there.experiment, f"key{key}", str(number))
            except Exception as error:
                failed.append(error)

    threads = [Thread(target=write, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []
    assert {f"key{key}" for key in range(5)} <= there.client.get_experiment(there.experiment).tags.keys()


def test_another_error_of_the_server_is_not_asked_again(monkeypatch):
    there, asked = question(tracking.connect(), "of an error"), []

    def refuse(*arguments: str) -> None:
        asked.append(arguments)
        raise MlflowException("the experiment is deleted")

    monkeypatch.setattr(there.client, "set_experiment_tag", refuse)
    with pytest.raises(MlflowException, match="deleted"):
        set_tag(there.client, there.experiment, "key", "value")
    assert len(asked) == 1


def test_the_first_experiment_lists_the_questions_with_their_links():
    first = tracking.connect()
    there = [question(first, "sweep *small*"), question(first, "crosstest", synthetic=True)]
    question(first, "sweep *small*")  # asked again: listed once
    note = first.client.get_experiment(first.experiment).tags["mlflow.note.content"]
    for name, each in zip((plain("sweep *small*"), "crosstest (synthetic people)"), there, strict=True):
        assert note.count(f"[{name}](#/experiments/{each.experiment}/runs") == 1
