#!/usr/bin/env python3
"""The checker of histories finds each kind of wrong, and nothing in what is right."""
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import history  # noqa: E402
import tap  # noqa: E402

ACCOUNTS = [f"account/{i:02}" for i in range(12)]


class World:
    """Twelve accounts of 100 at timestamp 10, and what is done to them."""

    def __init__(self):
        self.versions = [{"key": key, "start": 9, "commit": 10, "value": "100 begin"} for key in ACCOUNTS]
        self.lines = []

    def version(self, key, start, commit, value):
        self.versions.append({"key": key, "start": start, "commit": commit, "value": value})

    def tell(self, start, outcome, commit=0, reads=None, locked=None, writes=None, began=0, ended=0):
        self.lines.append({"start": start, "outcome": outcome, "commit": commit, "reads": reads or {},
                           "locked": locked or {}, "writes": writes or {}, "began": began, "ended": ended})

    def transfer(self, start, commit, one, two, amount, had=(100, 100), outcome="done", locks=False, began=0, ended=0):
        reads = {one: self.value(one), two: self.value(two)}
        writes = {one: f"{had[0] - amount} t{start}", two: f"{had[1] + amount} t{start}"}
        self.tell(start, "begun", reads={} if locks else reads, locked=reads if locks else {}, writes=writes, began=began)
        if outcome != "begun":
            self.tell(start, outcome, commit if outcome == "done" else 0, began=began, ended=ended)
        for key, value in writes.items():
            self.version(key, start, commit, value)

    def value(self, key):
        return max((v["commit"], v["value"]) for v in self.versions if v["key"] == key)[1]

    def check(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / "versions", Path(folder) / "history"]
            for path, lines in zip(paths, (self.versions, self.lines)):
                path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"start": 7, "cut')
            return history.check(paths[0], paths[1:])[0]


def expect(world, word):
    wrong = world.check()
    assert any(word in line for line in wrong), f"expected {word!r}, found {wrong!r}"


def good():
    world = World()
    world.transfer(20, 25, ACCOUNTS[0], ACCOUNTS[1], 30, began=1, ended=2)
    world.transfer(30, 35, ACCOUNTS[1], ACCOUNTS[2], 5, had=(130, 100), locks=True, began=3, ended=4)
    world.transfer(40, 45, ACCOUNTS[4], ACCOUNTS[5], 5, outcome="unknown")
    world.tell(50, "read", reads={ACCOUNTS[0]: "70 t20", ACCOUNTS[1]: "125 t30", ACCOUNTS[9]: "100 begin"})
    world.tell(52, "begun", writes={ACCOUNTS[3]: "1 t52"})
    world.tell(53, "begun", writes={ACCOUNTS[3]: "1 t53"})
    world.tell(53, "failed")
    return world


def test_what_is_right():
    assert good().check() == [], good().check()


def test_nothing_told():
    expect(World(), "no transaction")


def test_a_commit_that_is_lost():
    world = good()
    world.versions = [v for v in world.versions if v["start"] != 20]
    expect(world, "is not there")


def test_a_commit_in_part():
    world = good()
    world.versions = [v for v in world.versions if v["start"] != 20 or v["key"] == ACCOUNTS[0]]
    expect(world, "in part")


def test_a_failed_one_that_is_there():
    world = good()
    world.version(ACCOUNTS[3], 53, 60, "1 t53")
    expect(world, "failed, and is there")


def test_another_commit_timestamp():
    world = good()
    world.lines[1]["commit"] = 26
    expect(world, "was committed at 26")


def test_a_stranger():
    world = good()
    world.version(ACCOUNTS[6], 70, 75, "100 t70")
    expect(world, "nobody told")


def test_a_dirty_read():
    world = good()
    world.tell(54, "read", reads={ACCOUNTS[3]: "1 t52"})
    expect(world, "read account/03")


def test_a_skewed_read():
    world = good()
    world.tell(55, "read", reads={ACCOUNTS[0]: "70 t20", ACCOUNTS[1]: "100 begin"})
    expect(world, "read account/01")


def test_a_stale_locked_read():
    world = good()
    world.lines[2]["locked"][ACCOUNTS[1]] = "100 begin"
    expect(world, "locked account/01")


def test_a_lost_update():
    world = good()
    had = world.value(ACCOUNTS[7])
    world.transfer(60, 65, ACCOUNTS[7], ACCOUNTS[8], 1)
    world.tell(61, "begun", reads={ACCOUNTS[7]: had}, writes={ACCOUNTS[7]: "99 t61"})
    world.version(ACCOUNTS[7], 61, 66, "99 t61")
    expect(world, "wrote over")


def test_a_sum_that_changes():
    world = good()
    world.tell(60, "begun", writes={ACCOUNTS[6]: "101 t60"})
    world.version(ACCOUNTS[6], 60, 65, "101 t60")
    expect(world, "the sum is 1201")


def test_a_beginning_in_the_past():
    world = good()
    world.tell(24, "read", reads={ACCOUNTS[0]: "100 begin"}, began=5)
    expect(world, "began after")


tap.run(globals())
