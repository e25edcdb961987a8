#!/usr/bin/env python3
"""The tools that check us are checked: the test runner counts right, the layer check sees."""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402


def tool(name, folder="tools"):
    """A program as a module."""
    sys.dont_write_bytecode = True
    path = str(tap.SOURCE_DIR / folder / name)
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


def test_figures_of_earlier_versions_are_taken(directory):
    """bench/run-engine --add: memory_bytes and left_out were not there yet; what else is missing is named."""
    sys.path.insert(0, str(tap.SOURCE_DIR / "bench"))
    program = tool("run-engine", "bench")
    file = directory / "earlier.json"
    machine = {"date": "2026-11-01", "processor": "2 x CPU", "memory": "15 GiB", "kernel": "6.1", "file_system": "ext4",
               "sync_us": 90, "kvs": "kvs 0.1.0", "commit": "c50f389", "seconds": 2, "settings": {"kvs": "as it is"},
               "others": 0.01}
    line = {"peer": "kvs", "keys": 1000, "value": 100, "row": "get", "distribution": "uniform", "threads": 1, "number": 5}

    def add(machine, *lines):
        file.write_text(json.dumps({"machine": machine, "figures": lines}))
        return program.read_run(file)

    facts, figures = add(machine, line)
    assert (facts["memory_bytes"], facts["left_out"]) == (15 * 2**30, []), facts
    assert facts | {"memory_bytes": 7, "left_out": ["lmdb"]} == add(facts | {"memory_bytes": 7, "left_out": ["lmdb"]})[0]
    assert "5/s" in program.markdown(program.Figures(figures, facts["memory_bytes"]), facts)
    for name in ("date", "memory", "others"):
        fails(program, f"{file} has no '{name}': ", add, {key: machine[key] for key in machine if key != name}, line)
    fails(program, f"{file} has no 'row': ", add, machine, {key: line[key] for key in line if key != "row"})
    fails(program, f"{file} has no 'machine': ", lambda: file.write_text("{}") and program.read_run(file))
    for text in ("", "[]", '{"machine": 3, "figures": 1}'):
        file.write_text(text)
        fails(program, f"{file} is not what ", program.read_run, file)
    fails(program, "No such file", program.read_run, directory / "nowhere")


def fails(program, text, function, *arguments):
    try:
        function(*arguments)
    except program.Failure as failure:
        assert text in str(failure), failure
    else:
        raise AssertionError(f"no failure, where this was expected: {text}")


if __name__ == "__main__":
    tap.run(globals())
