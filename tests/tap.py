"""tests/tap.py: the little that a test in Python needs to print TAP.

    tests = [name for each function of the module that begins with test_], in the order of the file;
    a test fails by raising (assert, say); it is skipped by raising Skip("why").
"""
import atexit
import os
import pty
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

BUILD_DIR = Path(os.environ.get("KVS_BUILD_DIR", "build"))
SOURCE_DIR = Path(os.environ.get("KVS_SOURCE_DIR", Path(__file__).resolve().parent.parent))


def times(plain, asan, tsan):
    """How much of the same a test does in which build, as TIMES of times.h."""
    sanitizer = os.environ.get("KVS_SANITIZE", "none")
    return tsan if sanitizer == "thread" else plain if sanitizer == "none" else asan


class Skip(Exception):
    """Raised by a test that cannot run here."""


class Ended(BaseException):
    """The tester's time is over."""


def end_on_signal(number, _frame):
    raise Ended(f"signal {number}")


def kill_at_exit(process):
    """A process of a test must not outlive it, whatever happens to the test."""
    atexit.register(lambda: process.poll() is None and process.kill())


def open_terminal():
    """Both ends of a pseudo terminal."""
    try:
        return pty.openpty()
    except OSError as error:
        raise Skip(f"no pseudo terminals here: {error}") from error


def run(module_globals):
    """Runs the tests of a module, each with a directory of its own when it takes an argument."""
    tests = [(name, function) for name, function in module_globals.items()
             if name.startswith("test_") and callable(function)]
    print(f"TAP version 13\n1..{len(tests)}", flush=True)
    failed = 0
    signal.signal(signal.SIGTERM, end_on_signal)
    for number, (name, function) in enumerate(tests, 1):
        title = name.removeprefix("test_").replace("_", " ")
        directory = Path(tempfile.mkdtemp(prefix="kvs-test-"))
        try:
            function(*[directory][:function.__code__.co_argcount])
            print(f"ok {number} - {title}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {title} # SKIP {reason}", flush=True)
        except Ended as reason:
            print(f"not ok {number} - {title}\n# ended by {reason}", flush=True)
            sys.exit(1)
        except BaseException:  # also an exit from inside a test is a failure of that test
            failed += 1
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            print(f"not ok {number} - {title}", flush=True)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)
