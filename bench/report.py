"""What the programs of bench/ share: tables, marks for figures in a page, facts of the machine."""
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OTHERS_MAX = 0.1  # of the processors: more work of others than this spoils the numbers

def print_aligned(rows, file=sys.stdout):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        print("  ".join(cells).rstrip(), file=file)


def markdown_of(rows):
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" + "---:|" * (len(rows[0]) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows[1:]]) + "\n"


def markdown_write(path, text, program):
    """A new file, or the part of a file between the two marks of that program."""
    mark, end_mark = f"<!-- figures: {program} --markdown -->\n", "<!-- end of figures -->\n"
    if not path.exists():
        path.write_text(text)
        return
    head, begin, rest = path.read_text().partition(mark)
    _, end, tail = rest.partition(end_mark)
    if not begin or not end:
        sys.exit(f"{program}: {path} has no place for figures, it is left as it was")
    path.write_text(head + begin + "\n" + text + "\n" + end + tail)


# --- the machine ----


def busy_seconds():
    """Of all processors together since the system's start."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def sync_microseconds(directory):
    """The median of a 4 KiB append and fdatasync: what a synced write costs here at least."""
    times = []
    with open(directory / "probe", "wb", buffering=0) as file:
        for _ in range(200):
            begin = time.monotonic()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begin)
    os.unlink(directory / "probe")
    return statistics.median(times) * 1e6


def machine(scratch, server):
    """What a page of figures has to name, whatever was measured."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{os.cpu_count()} x {model}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "memory_bytes": memory,
        "kernel": platform.release(),
        "file_system": output_of("stat", "-f", "-c", "%T", str(scratch)),
        "sync_us": round(sync_microseconds(Path(scratch))),
        "kvs": output_of(str(server), "-V"),
        "commit": output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
    }


def measured_on(facts):
    return (f"Measured {facts['date']} on {facts['processor']}, {facts['memory']}, Linux {facts['kernel']}, "
            f"{facts['file_system']}; a 4 KiB append with fdatasync takes {facts['sync_us']} us there. "
            f"{facts['kvs']} ({facts['commit']})")


def too_busy(others):
    return (f"\nOther work took {others:.1f} processors meanwhile: the numbers say little."
            if others > OTHERS_MAX * os.cpu_count() else "")
