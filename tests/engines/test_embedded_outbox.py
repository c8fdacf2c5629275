"""Frames on their way to the engine: together, in order, and none for ever."""

import threading

from comfy_atelier.engines.embedded import worker
from comfy_atelier.engines.embedded.worker import TOGETHER_BYTES, Outbox


class Pipe:
    """A sink that takes at most `most` bytes at once, as an unbuffered pipe may."""

    def __init__(self, most=1 << 30):
        self.most = most
        self.writes = []
        self.wrote = threading.Event()

    def write(self, data):
        taken = bytes(data[: self.most])
        self.writes.append(taken)
        self.wrote.set()
        return len(taken)


def test_a_frame_takes_those_that_wait_along():
    pipe = Pipe()
    outbox = Outbox(pipe)
    outbox.put(b"started ", at_once=False)
    outbox.put(b"produced ", at_once=False)
    assert pipe.writes == []
    outbox.put(b"finished", at_once=True)
    assert pipe.writes == [b"started produced finished"]


def test_a_pipe_that_takes_a_part_gets_the_rest():
    pipe = Pipe(most=3)
    Outbox(pipe).put(b"12345678", at_once=True)
    assert pipe.writes == [b"123", b"456", b"78"]


def test_much_does_not_wait():
    pipe = Pipe()
    Outbox(pipe).put(b"x" * (TOGETHER_BYTES + 1), at_once=False)
    assert len(pipe.writes) == 1


def test_what_nothing_follows_is_sent_all_the_same(monkeypatch):
    monkeypatch.setattr(worker, "TOGETHER_SECONDS", 0.001)
    pipe = Pipe()
    outbox = Outbox(pipe)
    threading.Thread(target=outbox.serve, daemon=True).start()
    for number in range(3):
        pipe.wrote.clear()
        outbox.put(b"started %d" % number, at_once=False)
        assert pipe.wrote.wait(10)
    assert b"".join(pipe.writes) == b"started 0started 1started 2"
