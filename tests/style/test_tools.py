#!/usr/bin/env python3
"""The tools that check us are checked: the test runner counts right, the layer check sees."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402


def tool(name):
    """A program of tools/ as a module."""
    sys.dont_write_bytecode = True
    path = str(tap.SOURCE_DIR / "tools" / name)
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def counted(outcome, text="", protocol="tap", status=1):
    record = {"name": "one", "result": outcome, "stdout": text, "returncode": status}
    with contextlib.redirect_stdout(io.StringIO()):  # it says what failed
        count = tool("run-tests").count_test(record, protocol)
    return count.passed, count.failed, count.skipped


def test_each_tap_line_counts():
    assert counted("OK", "1..3\nok 1 - a\nok 2 - b\nok 3 - c # SKIP not here\n") == (2, 0, 1)
    assert counted("ERROR", "1..2\nok 1 - a\nnot ok 2 - b\n") == (1, 1, 0)


def test_a_program_without_tap_counts_once():
    assert counted("OK", "ok whatever", "exitcode") == (1, 0, 0)
    assert counted("FAIL", "", "exitcode") == (0, 1, 0)


def test_crashes_and_time_outs_and_silence_are_failures():
    assert counted("ERROR", "1..3\nok 1 - a\n") == (1, 1, 0)
    assert counted("TIMEOUT", "1..3\nok 1 - a\n") == (1, 1, 0)
    assert counted("SKIP", "") == (0, 1, 0)
    assert counted("OK", "") == (0, 1, 0)


def test_a_program_that_skips_itself_is_no_failure():
    assert counted("SKIP", "1..0 # SKIP nothing to test it with\n") == (0, 0, 1)
    assert counted("FAIL", "1..2\nok 1 - a\nnot ok 2 # SKIP b\n", status=0) == (1, 0, 1)


def test_all_is_built_before_anything_is_tested():
    """And when a build fails, that is said at once."""
    for failing in (None, "asan"):
        runner = tool("run-tests")
        steps = []

        def step(name, kind, runner=runner, steps=steps, failing=failing):
            steps.append((name, kind))
            count = runner.Count()
            if name == "build" and kind == failing:
                count.fail(kind)
            else:
                count.passed += 1
            return count

        runner.run_build = lambda kind: step("build", kind)
        runner.run_build_tests = lambda kind, suites, tests: step("tests", kind)
        runner.start_lint = lambda: "lint"
        runner.end_lint = lambda lint: step(lint, "")
        sys.argv = ["run-tests", "--builds", "test lint asan tsan"]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = runner.main()
        builds = [("build", kind) for kind in ("test", "asan", "tsan")]
        if failing:
            assert (status, steps) == (1, builds), (status, steps)
            assert said.getvalue().endswith("2 passed, 1 failed\n"), said.getvalue()
        else:
            assert (status, steps) == (0, builds + [("tests", "test"), ("tests", "asan"), ("tests", "tsan"), ("lint", "")])
            assert said.getvalue().endswith("4 passed, 0 failed\n"), said.getvalue()


def test_a_lower_layer_may_not_include_a_higher_one():
    layers = tool("check-layers")
    path = tap.SOURCE_DIR / "src" / "base" / "buf.c"
    assert layers.problem("base", path, '"', "runtime/loop.h")
    assert layers.problem("proto", path, '"', "runtime/loop.h")
    assert layers.problem("proto", path, "<", "uv.h")
    assert not layers.problem("server", path, '"', "proto/kvs/wire.h")
    assert not layers.problem("base", path, "<", "kvs/error.h")


def test_functions_are_measured(directory):
    style = tool("check-style")
    style.ROOT = directory
    (directory / "a.c").write_text('/* a.c: a "{" in words. */\nstatic int f(int x)\n{\n'
                                   '    return x; /* } */\n}\n\nint g(void)\n{\n}\n')
    functions = [(name, lines, static) for name, _, lines, static in style.File("a.c").functions()]
    assert functions == [("f", 3, True), ("g", 2, False)], functions


def make_install(directory, *arguments):
    """In a copy of the Makefile alone; what it ran, of programs that only say so."""
    shutil.copy(tap.SOURCE_DIR / "Makefile", directory)
    (directory / "build").mkdir(exist_ok=True)
    (directory / "build" / "build.ninja").touch()
    for name in ("meson", "ninja", "ldconfig"):
        program = directory / name
        program.write_text(f'#!/bin/sh\necho {name} "$DESTDIR" "$@" >>build/said\n')
        program.chmod(0o755)
    subprocess.run(["make", "install", *arguments], cwd=directory, check=True, capture_output=True,
                   env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"})
    return (directory / "build" / "said").read_text().splitlines()


def test_make_install_lets_programs_find_the_library(directory):
    """By ldconfig, which meson does not run; not when a package is made."""
    assert make_install(directory, "DESTDIR=")[-1].split()[0] == "ldconfig"
    assert make_install(directory, "DESTDIR=/a b", "PREFIX=/c d")[-2:] == [
        "meson /a b configure build -Dprefix=/c d", "meson /a b install -C build"]


def test_sudo_make_install_leaves_the_build_to_its_owner(directory):
    """Else the next make could not write there."""
    if os.getuid() != 0:
        raise tap.Skip("only root writes files that the owner cannot")
    (directory / "Makefile").touch()
    os.chown(directory / "Makefile", 12345, 12345)
    make_install(directory)
    assert {path.stat().st_uid for path in (directory / "build").rglob("*")} == {12345}


if __name__ == "__main__":
    tap.run(globals())
