#!/usr/bin/env python3
"""Completion in bash, zsh and fish: the scripts that the build made, loaded by the shells themselves. Each shell is
asked what a line may become; the tests compare that with the programs' help. No program is in the shells' PATH."""
import functools
import re
import shutil

from harness import CLIENT, SERVER, Terminal, run, tap

PROGRAMS = {"kvs-client": CLIENT, "kvs-server": SERVER, "kvs-bench": str(tap.BUILD_DIR / "kvs-bench")}
SCRIPTS = tap.BUILD_DIR / "packaging"
FILES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}

BASH = r"""
compopt() { COMPREPLY=("$*"); }  # readline would make the list
for script in "$1"/*; do [[ $script == *.* || $script == */_* ]] || . "$script"; done
while IFS=$'\t' read -r -a COMP_WORDS; do
    COMP_LINE=${COMP_WORDS[0]}
    COMP_WORDS=("${COMP_WORDS[@]:1}")
    [[ ${COMP_WORDS[-1]} != END ]] || COMP_WORDS[-1]=''
    COMP_POINT=${#COMP_LINE} COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=(none)
    "_${COMP_WORDS[0]//-/_}" "${COMP_WORDS[0]}" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    printf '%s\n' "${COMPREPLY[@]}" "[end]"
done
"""

ZSH = r"""
PS1= LISTMAX=100000 fpath=($SCRIPTS $fpath)
autoload -Uz compinit
compinit -D -u
unsetopt autolist automenu
compadd() {  # what is offered, not the calls that only filter
    local -a hits
    if (( ! ${@[(I)-[OAD]]} )); then
        builtin compadd -A hits "$@"
        print -rl -- $hits >>$OFFERED
    fi
    builtin compadd "$@"
}
answer() { zle -I; BUFFER=; print -r -- "[""end]"; }
zle -N answer
bindkey '^T' answer
"""


def needed(shell):
    if shutil.which(shell) is None:
        raise tap.Skip(f"{shell} is not installed")


def ask_bash(lines, directory):
    """Bash makes words as its COMP_WORDBREAKS say; of those = and : may stand in our lines."""
    rows = ["\t".join([line, *re.findall(r"[=:]+|[^\s=:]+", line), *["END"] * line.endswith(" ")]) for line in lines]
    done = run("bash", "--norc", "--noprofile", "-c", BASH, "bash", str(SCRIPTS), cwd=directory,
               stdin="".join(row + "\n" for row in rows).encode())
    assert done.status == 0 and done.err == b"", done
    return [set(answer.split("\n")) - {""} for answer in done.out.decode().split("[end]\n")[:-1]]


def ask_zsh(lines, directory):
    offered, answers = directory / "offered", []
    (directory / "start.zsh").write_text(ZSH)
    with Terminal("zsh", "-f", "-i", HOME=str(directory), SCRIPTS=str(SCRIPTS), OFFERED=str(offered)) as shell:
        shell.type(f"cd {directory} && source ./start.zsh; print 're''ady'\n".encode())
        shell.expect(b"ready\r\n")
        for line in lines:
            offered.write_text("")
            shell.type(line.encode() + b"\t\x14")
            shown = shell.expect(b"[end]")
            assert b"command not found" not in shown and b"eval" not in shown, shown
            answers.append(set(offered.read_text().split()))
    return answers


def ask_fish(lines, directory):
    program = "for script in $argv[1]/*.fish; source $script; end; cd $argv[2]; " \
              "for line in $argv[3..-1]; complete -C $line; echo '[end]'; end"
    done = run("env", f"HOME={directory}", "fish", "--no-config", "-c", program, str(SCRIPTS), str(directory), *lines)
    assert done.status == 0 and done.err == b"", done
    return [{row.split("\t")[0] for row in answer.splitlines()} for answer in done.out.decode().split("[end]\n")[:-1]]


ASK = {"bash": ask_bash, "zsh": ask_zsh, "fish": ask_fish}


def ask(shell, lines, directory):
    needed(shell)
    answers = ASK[shell](lines, directory)
    assert len(answers) == len(lines), answers
    return dict(zip(lines, answers))


def listed(text, title):
    part = text.split(f"{title}:\n")[1].split("\n\n")[0]
    return {line.split()[0] for line in part.splitlines() if line[2] != " "}


@functools.cache
def contexts():
    """Lines to where options may stand -> the long options that help names there."""
    found = {}
    for name, program in PROGRAMS.items():
        text = run(program, "--help").out.decode()
        found[name] = options_of(text)
        if name != "kvs-client":
            continue
        for command in sorted(listed(text, "Commands")):
            inner = run(program, command, "--help").out.decode()
            found[f"{name} {command}"] = options_of(inner)
            for own in sorted(listed(inner, "Commands")) if "Commands:" in inner else []:
                found[f"{name} {command} {own}"] = options_of(run(program, command, own, "--help").out.decode())
    assert len(found) > 30 and all(len(options) >= 6 for options in found.values()), found
    return found


def options_of(text):
    return set(re.findall(r"^  .{4}(--[a-z-]+)", text, re.M))


def check_options(shell, directory):
    expected = contexts()
    answers = ask(shell, [f"{line} --" for line in expected], directory)
    for line, options in expected.items():
        got = {word.rstrip("=") for word in answers[f"{line} --"]}
        assert got == options, (line, got ^ options)


def test_bash_completes_every_option_of_help(directory):
    check_options("bash", directory)


def test_zsh_completes_every_option_of_help(directory):
    check_options("zsh", directory)


def test_fish_completes_every_option_of_help(directory):
    check_options("fish", directory)


COMMANDS = listed(run(CLIENT, "--help").out.decode(), "Commands")
EVENTS = listed(run(CLIENT, "events", "--help").out.decode(), "Commands")
SHELLS = {"bash", "zsh", "fish"}

# A line and what its last word may become.
WORDS = {
    "kvs-server --sync ": {"always", "interval", "never"},
    "kvs-server --sync=": {"always", "interval", "never"},
    "kvs-server --sync=in": {"interval"},
    "kvs-server -s n": {"never"},
    "kvs-server --engine ": {"kvs", "rocksdb", "memory", "tikv"},
    "kvs-server --tikv=127.0.0.1:1,127.0.0.1:2 --addr 127.0.0.1:0 --file-io u": {"uring"},
    "kvs-server --tikv --log-level s": {"silent"},
    "kvs-server --completion ": SHELLS,
    "kvs-bench memory: --workload s": {"set", "subscribe"},
    "kvs-bench kvs://127.0.0.1:4000 --distribution=": {"uniform", "zipfian"},
    "kvs-client ": COMMANDS,
    "kvs-client help ": COMMANDS,
    "kvs-client ex": {"exists", "export"},
    "kvs-client --completion ": SHELLS,
    "kvs-client --addr 127.0.0.1:4000 ev": {"events"},
    "kvs-client --timeout=5 -u memory: help sc": {"scan"},
    "kvs-client export --prefix events --format ": {"json", "raw"},
    "kvs-client set -e events --fi": {"--file"},
    "kvs-client get events --ra": {"--raw"},
    "kvs-client events ": EVENTS,
    "kvs-client events --url esdb://127.0.0.1:1113 gr": {"groups"},
    "kvs-client events groups ": {"list", "info", "create", "update", "delete", "replay"},
    "kvs-client events users --groups a p": {"password"},
    "kvs-client events groups create order-7 mailers --strategy P": {"Pinned", "PinnedByCorrelation"},
    "kvs-client events append -b 5 order-7 --expect ": {"none", "exists", "any"},
    "kvs-client events read order-7 --from=": {"start", "end"},
    # What nobody can guess.
    "kvs-client set --ttl e": set(),
    "kvs-client get e": set(),
    "kvs-client events read e": set(),
    "kvs-client nonsense e": set(),
    "kvs-server --addr e": set(),
    "kvs-server --eventstore=e": set(),
    "kvs-server --nonsense=e": set(),
    "kvs-server e": set(),
}


def check_words(shell, directory):
    answers = ask(shell, list(WORDS), directory)
    for line, expected in WORDS.items():
        got = {re.sub("^--.*=(?=.)", "", word) for word in answers[line]}
        assert {word.rstrip("=") for word in got} == expected, (line, got, expected)


def test_bash_completes_commands_and_values(directory):
    check_words("bash", directory)


def test_zsh_completes_commands_and_values(directory):
    check_words("zsh", directory)


def test_fish_completes_commands_and_values(directory):
    check_words("fish", directory)


# A line, and whether its last word may become a file, or only a directory; None: neither.
PATHS = {
    "kvs-server --dir da": "directory",
    "kvs-server --dir=da": "directory",
    "kvs-server -d da": "directory",
    "kvs-server --backup-dir da": "directory",
    "kvs-server --verify --repair da": "directory",
    "kvs-server --config da": "file",
    "kvs-server --tls-cert=da": "file",
    "kvs-client --tls-ca da": "file",
    "kvs-client set logo --file da": "file",
    "kvs-client import --batch 7 da": "file",
    "kvs-client export -p order da": "file",
    "kvs-client events append -e 5 order-7 da": "file",
    "kvs-client backup da": "directory",
    "kvs-client --url log:da": "directory",
    "kvs-client count --url=rocksdb:da": "directory",
    "kvs-bench --load log:da": "directory",
    "kvs-client import file da": None,
    "kvs-client events append da": None,
    "kvs-client set key da": None,
    "kvs-client --url kvs://da": None,
}


def check_paths(shell, directory, file, folder):
    (directory / "data").mkdir()
    (directory / "data.txt").touch()
    answers = ask(shell, list(PATHS), directory)
    for line, kind in PATHS.items():
        got = {re.sub(r"^(--[a-z-]+=)?(log:|rocksdb:)?", "", word) for word in answers[line]}
        assert got == {"file": file, "directory": folder, None: set()}[kind], (line, kind, got)


def test_bash_completes_files_and_directories(directory):
    check_paths("bash", directory, {"-o default"}, {"-o dirnames"})


def test_zsh_completes_files_and_directories(directory):
    check_paths("zsh", directory, {"data", "data.txt"}, {"data"})


def test_fish_completes_files_and_directories(directory):
    check_paths("fish", directory, {"data/", "data.txt"}, {"data/"})


def check_typed(shell, start, server, bench, directory):
    """At a terminal, as a person does: words are completed within = and :, and quoted as the shell wants it."""
    needed(shell[0])
    (directory / "my data").mkdir()
    (directory / "my settings").touch()
    with Terminal(*shell, HOME=str(directory), SCRIPTS=str(SCRIPTS)) as terminal:
        terminal.type(f"cd {directory}; PS1=; {start}; print_words() {{ printf '<%s>' \"$@\"; echo; }}\n".encode())
        for name in ("kvs-server", "kvs-bench"):
            terminal.type(f"{name}() {{ print_words \"$@\"; }}\n".encode())
        terminal.type(b"kvs-server --eng\tro\t--dir=m\t --file-io=ur\t--sy\t=al\t-c my\\ s\t\n")
        terminal.expect(server)
        terminal.type(b"kvs-bench --loa\t-only log:my\t --wor\tmi\t\n")
        terminal.expect(bench)
        terminal.type(b"exit\n")
        terminal.finish()


def test_bash_completes_what_is_typed(directory):
    start = 'for script in kvs-server kvs-bench; do . "$SCRIPTS/$script"; done'
    check_typed(["bash", "--norc", "--noprofile", "-i"], start,
                b"<--engine><rocksdb><--dir=my data/><--file-io=uring><--sync=always><-c><my settings>",
                b"<--load-only><log:my data/><--workload><mixed>", directory)


def test_zsh_completes_what_is_typed(directory):
    start = "fpath=($SCRIPTS $fpath); autoload -Uz compinit; compinit -D -u"
    check_typed(["zsh", "-f", "-i"], start,  # which adds a = behind an option, and takes / off before a blank
                b"<--engine=rocksdb><--dir=my data><--file-io=uring><--sync=always><-c><my settings>",
                b"<--load-only><log:my data><--workload=mixed>", directory)


def test_shells_parse_what_is_printed():
    for name, program in PROGRAMS.items():
        for shell, file in FILES.items():
            printed = run(program, "--completion", shell)
            assert printed.status == 0 and printed.err == b"", printed
            path = SCRIPTS / file.format(name)
            assert path.read_bytes() == printed.out, path
            if shutil.which(shell):
                assert run(shell, "-n", str(path)) == (0, b"", b""), path


def test_shellcheck_has_nothing_to_say():
    needed("shellcheck")
    for name in PROGRAMS:
        assert run("shellcheck", "--shell=bash", str(SCRIPTS / name)) == (0, b"", b""), name


def test_other_shells_are_refused():
    for program in PROGRAMS.values():
        done = run(program, "--completion", "tcsh")
        assert done.status == 2 and b"'tcsh' is not one of bash, zsh, fish" in done.err, done


tap.run(globals())
