#!/usr/bin/env python3
"""What make install gives: a program outside the tree builds against it, and sees no more than the
public headers promise."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import tap  # noqa: E402

PROGRAM = """
#include <kvs/kvs.h>
#include <kvs/server.h>
#include <stdio.h>
int main(void)
{
    printf("%s %s\\n", kvs_version(), kvs_error_name(KVS_ERR_NOT_FOUND));
    return 0;
}
"""

# In C and in C++: what the macros of the headers make.
MACROS = """
#include <kvs/kvs.h>
#include <kvs/server.h>
#include <stdio.h>
int main(void)
{
    kvs_op op = KVS_OP_INIT;
    struct kvs_server_options options = KVS_SIZED(struct kvs_server_options);
    kvs_group_settings g = KVS_GROUP_SETTINGS_INIT;
    kvs_position start = KVS_POSITION_START, end = KVS_POSITION_END;
    printf("%d %d %d\\n", op.size == sizeof op, op.kind, options.size == sizeof options);
    printf("%d %d %d %d %u %u ", g.size == sizeof g, g.resolve_links, g.extra_statistics,
           (int)g.start_from, g.message_timeout_ms, g.retries_max);
    printf("%u %u %u %u %u %u ", g.live_buffer_count, g.history_buffer_count, g.read_batch_count,
           g.checkpoint_after_ms, g.checkpoint_count_min, g.checkpoint_count_max);
    printf("%u %d %d\\n", g.subscribers_max, g.strategy == NULL, kvs_position_compare(start, end));
    return 0;
}
"""


def command(*arguments, **options):
    done = subprocess.run([str(argument) for argument in arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def install(directory):
    command("meson", "install", "-C", tap.BUILD_DIR, "--no-rebuild", "--destdir", directory)
    (pc_file,) = directory.rglob("kvs.pc")
    # The prefix is that of a real installation: let it be where this one is.
    text = pc_file.read_text()
    prefix = re.search("^prefix=(.*)$", text, re.MULTILINE)[1]
    pc_file.write_text(text.replace(f"prefix={prefix}", f"prefix={directory}{prefix}"))
    return pc_file


def pkg_config(pc_file, *arguments):
    environment = {**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent)}
    return command("pkg-config", *arguments, "kvs", env=environment).split()


def compile_and_run(directory, flags, environment):
    source = directory / "program.c"
    source.write_text(PROGRAM)
    binary = directory / "program"
    command("cc", "-std=c11", "-Wall", "-Werror", source, "-o", binary, *flags)
    output = command(binary, env={**os.environ, **environment})
    version = (tap.SOURCE_DIR / "meson.build").read_text().split("version: '")[1].split("'")[0]
    assert output == f"{version} NOT_FOUND\n", output
    return command("ldd", binary, env={**os.environ, **environment})


def header_functions():
    """Names of the functions that the public headers declare."""
    names = set()
    for header in (tap.SOURCE_DIR / "include" / "kvs").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
        text = re.sub(r"^#.*(\\\n.*)*$", "", text, flags=re.MULTILINE)
        for declaration in text.replace("{", ";").replace("}", ";").split(";"):
            found = re.search(r"\b(kvs_\w+)\s*\(", declaration)
            if found and "typedef" not in declaration and "static" not in declaration:
                names.add(found[1])
    return names


def checked_in_symbols():
    return set((Path(__file__).parent / "symbols.txt").read_text().split())


def defined_symbols(library, *options):
    lines = command("nm", "--defined-only", "--extern-only", *options, library).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if len(line.split()) == 3} - {"KVS_0"}


def test_a_program_links_the_shared_library(directory):
    pc_file = install(directory)
    flags = pkg_config(pc_file, "--cflags", "--libs")
    needed = compile_and_run(directory, flags, {"LD_LIBRARY_PATH": str(pc_file.parent.parent)})
    assert "libkvs.so.0" in needed, needed


def test_a_program_links_the_static_library(directory):
    pc_file = install(directory)
    flags = pkg_config(pc_file, "--static", "--cflags", "--libs")
    at = flags.index("-lkvs")
    flags[at:at + 1] = ["-Wl,-Bstatic", "-lkvs", "-Wl,-Bdynamic"]
    needed = compile_and_run(directory, flags, {})
    assert "libkvs" not in needed, needed


def test_the_library_goes_where_programs_look_for_it(directory):
    """Below the usual prefix, which this build's need not be."""
    looks = command("pkg-config", "--variable=pc_path", "pkg-config").strip().split(":")
    if not any(folder.startswith("/usr/local/") for folder in looks):
        raise tap.Skip("pkg-config looks for nothing in /usr/local here")
    libdir = re.search(r"^libdir=\$\{prefix\}(.*)$", install(directory).read_text(), re.MULTILINE)[1]
    assert f"/usr/local{libdir}/pkgconfig" in looks, (libdir, looks)


def test_each_header_compiles_alone(directory):
    pc_file = install(directory)
    flags = pkg_config(pc_file, "--cflags")
    for header in sorted((tap.SOURCE_DIR / "include" / "kvs").glob("*.h")):
        source = directory / "one.c"
        source.write_text(f"#include <kvs/{header.name}>\nint not_empty;\n")
        command("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source, *flags)


def test_headers_are_for_cpp_too(directory):
    if shutil.which("c++") is None:
        raise tap.Skip("no C++ compiler here")
    pc_file = install(directory)
    flags = pkg_config(pc_file, "--cflags", "--libs")
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    outputs = []
    for compiler, standard, suffix in (("cc", "c11", "c"), ("c++", "c++11", "cc"), ("c++", "c++17", "cc")):
        for header in sorted((tap.SOURCE_DIR / "include" / "kvs").glob("*.h")):
            source = directory / f"one.{suffix}"
            source.write_text(f"#include <kvs/{header.name}>\nextern int not_empty;\n")
            command(compiler, f"-std={standard}", *warnings, "-fsyntax-only", source, *flags)
        source = directory / f"macros.{suffix}"
        source.write_text(MACROS)
        binary = directory / "macros"
        command(compiler, f"-std={standard}", *warnings, source, "-o", binary, *flags)
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(pc_file.parent.parent)}
        outputs.append(command(binary, env=libraries))
    assert len(set(outputs)) == 1 and outputs[0].startswith("1 0 1\n1 0 0 -1 30000 10 500 "), outputs


def test_only_the_public_headers_are_installed(directory):
    install(directory)
    installed = sorted(path.name for path in directory.rglob("*.h"))
    assert installed == sorted(path.name for path in (tap.SOURCE_DIR / "include/kvs").glob("*.h"))


def test_programs_manual_pages_completion_and_unit_are_installed(directory):
    install(directory)
    names = {path.name for path in directory.rglob("*")}
    for name in ("kvs-server", "kvs-client", "kvs-bench"):
        assert name in names, name
    for name in ("kvs-server.1", "kvs-client.1", "kvs-bench.1", "kvs.3", "kvs-server.service",
                 "kvs-server.socket"):
        assert name in names or name + ".gz" in names, name
    for name in ("kvs-server", "kvs-client", "kvs-bench"):
        for file in (f"bash-completion/completions/{name}", f"zsh/site-functions/_{name}",
                     f"fish/vendor_completions.d/{name}.fish"):
            assert [path for path in directory.rglob(f"share/{file}") if path.stat().st_size > 1000], file


def test_make_uninstall_empties_the_place_that_is_named(directory):
    """Not the last one that something was installed to; and what others have there stays."""
    tree = directory / "tree"
    tree.mkdir()
    shutil.copy(tap.SOURCE_DIR / "Makefile", tree)
    (tree / "tools").symlink_to(tap.SOURCE_DIR / "tools")
    (tree / "build").symlink_to(tap.BUILD_DIR.resolve())
    stages = [directory / "first", directory / "second"]
    for stage in stages:
        command("meson", "install", "-C", tap.BUILD_DIR, "--no-rebuild", "--destdir", stage)
    (pc_file,) = stages[0].rglob("kvs.pc")
    prefix = re.search("^prefix=(.*)$", pc_file.read_text(), re.MULTILINE)[1]
    other = Path(f"{stages[0]}{prefix}/include/other.h")
    other.touch()
    before = sorted(stages[1].rglob("*"))

    def uninstall(stage):
        return subprocess.run(["make", "uninstall", f"DESTDIR={stage}", f"PREFIX={prefix}"], cwd=tree,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    done = uninstall(stages[0])
    assert done.returncode == 0 and f"removed from {stages[0]}{prefix}\n" in done.stdout, done
    left = [path for path in stages[0].rglob("*") if not path.is_dir() or path.name == "kvs"]
    assert left == [other], left
    assert sorted(stages[1].rglob("*")) == before
    assert uninstall(stages[1]).returncode == 0
    done = uninstall(stages[1])
    assert done.returncode != 0 and f"nothing of kvs is in {stages[1]}{prefix}" in done.stderr, done


def test_the_list_of_symbols_is_that_of_the_headers():
    assert checked_in_symbols() == header_functions(), checked_in_symbols() ^ header_functions()


def test_the_shared_library_shows_the_list_of_symbols():
    shown = defined_symbols(tap.BUILD_DIR / "src" / "libkvs.so", "--dynamic")
    assert shown == checked_in_symbols(), shown ^ checked_in_symbols()


def test_the_static_library_shows_the_list_of_symbols():
    shown = defined_symbols(tap.BUILD_DIR / "src" / "libkvs.a")
    assert shown == checked_in_symbols(), shown ^ checked_in_symbols()


if __name__ == "__main__":
    tap.run(globals())
