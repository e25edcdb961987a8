#!/usr/bin/env python3
"""What a suite of a crate says is counted as it is meant, and one that does not run is no success."""
import io
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import own  # noqa: E402
import tap  # noqa: E402


class Told:
    def __init__(self):
        self.lines = []

    def line(self, _name, line):
        self.lines.append(line)


def said(*tests, summary):
    """What comes of it: the counts, the lines."""
    told = Told()
    lines = ["running 3 tests", *tests, "", *(["test result: " + summary] if summary else [])]
    return own.Suite.follow(told, "suite", [line + "\n" for line in lines], io.StringIO()), told.lines


def test_each_result_is_a_line():
    counts, lines = said("test a::b ... ok", "test c - should panic ... ok", "test d ... FAILED", "test e ... ignored, slow",
                         summary="FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out")
    assert counts == {"ok": 2, "FAILED": 1, "ignored": 1}, counts
    assert lines == ["ok - a::b", "ok - c", "not ok - d", "ok - e # SKIP its makers leave it out"], lines


def test_what_a_test_prints_is_no_result():
    counts, lines = said("test a ... some words of its own ok", "a test that is ok", "ok",
                         summary="ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out")
    assert counts is not None and lines == ["ok - a"], lines


def test_other_numbers_than_said_are_wrong():
    counts, _ = said("test a ... ok", summary="ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out")
    assert counts is None


def test_an_end_before_the_end_is_wrong():
    assert said("test a ... ok", summary=None)[0] is None


def test_no_test_at_all_is_wrong():
    assert said(summary="ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out")[0] is None
    assert said("test a ... ignored", summary="ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out")[0] is None


def test_mocha_tells_how_many_there_are():
    def follow(*lines):
        told = Told()
        return own.follow_mocha(told, "suite", [line + "\n" for line in lines], io.StringIO()), told.lines

    assert follow("1..2", "ok 1 a b", "Connection not authorized", "not ok 2 c", "  Error: c", "# tests 2") == \
        (True, ["ok - a b", "not ok - c"])
    assert follow("1..2", "ok 1 a b")[0] is False  # it ended before its end
    assert follow("ok 1 a b")[0] is False
    assert follow("1..0")[0] is False


tap.run(globals())
