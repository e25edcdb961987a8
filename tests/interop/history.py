#!/usr/bin/env python3
"""Checks what clients told of their transactions against all versions that the store has of every key.

    history.py VERSIONS HISTORY...

Both are lines of JSON; tikv/go/history.go has the fields. A history may end anywhere: its client was
killed. Checked is that the store is what snapshot isolation allows it to be:

  1. a transaction is there with all its writes or with none, at one commit timestamp: that which its
     client was told; one told done is there, one told failed is not, others are one or the other;
  2. nothing is there that nobody wrote;
  3. a read is the newest version at or below the start of its transaction, of all keys at once: no
     dirty, fuzzy or skewed read, and none goes back; a read under a lock that was kept is the version
     just before the transaction's own;
  4. of two transactions that overlap only one writes a key: no lost update;
  5. the sum of all accounts is the same after every commit;
  6. a transaction that began after another one was told done, begins above its commit.
"""
import bisect
import json
import sys
from collections import defaultdict
from pathlib import Path

SUM = 12 * 100  # of the accounts, see history.go


def lines_of(path):
    """The last line may be cut short."""
    for line in Path(path).read_text(errors="replace").splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                pass


class Checker:
    def __init__(self):
        self.wrong = []
        self.versions = defaultdict(list)  # key -> [(commit, start, value)], oldest first
        self.written = defaultdict(dict)  # start -> {key: (commit, value)}
        self.told = {}  # start -> what its client said, all lines together
        self.counts = defaultdict(int)

    def say(self, text):
        self.wrong.append(text)

    def load(self, versions, histories):
        for line in lines_of(versions):
            self.versions[line["key"]].append((line["commit"], line["start"], line["value"]))
            self.written[line["start"]][line["key"]] = line["commit"], line["value"]
        for of_key in self.versions.values():
            of_key.sort()
        for history in histories:
            for line in lines_of(history):
                one = self.told.setdefault(line["start"], {"outcome": "begun", "reads": {}, "locked": {}, "writes": {},
                                                           "commit": 0, "began": line["began"], "ended": 0})
                for field in ("reads", "locked", "writes"):
                    one[field].update(line.get(field, {}))
                one["outcome"] = line["outcome"]
                one["ended"] = line["ended"]
                one["commit"] = line.get("commit", 0)

    def presence(self):
        for start, one in self.told.items():
            there = self.written.get(start, {})
            self.counts[one["outcome"]] += 1
            values = {key: value for key, (_, value) in there.items()}
            commits = {commit for commit, _ in there.values()}
            if there and values != one["writes"]:
                self.say(f"transaction {start} is there in part: {values}, of {one['writes']}")
            if len(commits) > 1:
                self.say(f"transaction {start} has several commit timestamps: {commits}")
            if one["outcome"] == "done" and not there:
                self.say(f"transaction {start} was done, and is not there")
            if one["outcome"] == "done" and one["commit"] and commits and commits != {one["commit"]}:
                self.say(f"transaction {start} was committed at {one['commit']}, and is there at {commits}")
            if one["outcome"] == "failed" and there:
                self.say(f"transaction {start} failed, and is there")

    def strangers(self):
        for start, there in self.written.items():
            if start not in self.told and any(not value.endswith(" begin") for _, value in there.values()):
                self.say(f"nobody told of transaction {start}, which wrote {there}")

    def before(self, key, commit):
        """The version of a key that is visible at `commit`."""
        of_key = self.versions[key]
        at = bisect.bisect_right(of_key, (commit, float("inf"), ""))
        return of_key[at - 1] if at > 0 else (0, 0, "")

    def reads(self):
        for start, one in self.told.items():
            for key, value in one["reads"].items():
                there = self.before(key, start)
                if there[2] != value:
                    self.say(f"transaction {start} read {key} as {value!r}; at its start it was {there[2]!r}")
            for key, value in one["locked"].items():
                own = self.written.get(start, {}).get(key)
                there = self.before(key, own[0] - 1) if own else None
                if there and there[2] != value:
                    self.say(f"transaction {start} locked {key} at {value!r}; before its own version is {there[2]!r}")
            self.counts["reads"] += len(one["reads"]) + len(one["locked"])

    def conflicts(self):
        for start, one in self.told.items():
            for key, (commit, _) in self.written.get(start, {}).items():
                other = self.before(key, commit - 1)
                if key in one["reads"] and other[0] > start:
                    self.say(f"{key}: transaction {start}, commit {commit}, wrote over {other}, which it did not see")

    def sums(self):
        changes = sorted((commit, key, value) for key, of_key in self.versions.items() if key.startswith("account/")
                         for commit, _, value in of_key)
        balances = {}
        for at, (commit, key, value) in enumerate(changes):
            balances[key] = int(value.split()[0])
            last = at + 1 == len(changes) or changes[at + 1][0] != commit
            if last and sum(balances.values()) != SUM:
                self.say(f"after the commit at {commit} the sum is {sum(balances.values())}, not {SUM}")

    def real_time(self):
        done = sorted((one["ended"], self.commit_of(start)) for start, one in self.told.items()
                      if one["outcome"] == "done" and self.commit_of(start))
        highest, times, tops = 0, [], []
        for ended, commit in done:
            highest = max(highest, commit)
            times.append(ended)
            tops.append(highest)
        for start, one in self.told.items():
            at = bisect.bisect_left(times, one["began"])
            if at > 0 and tops[at - 1] > start:
                self.say(f"transaction {start} began after a commit at {tops[at - 1]} was told done")

    def commit_of(self, start):
        return next((commit for commit, _ in self.written.get(start, {}).values()), 0)

    def check(self):
        self.presence()
        self.strangers()
        self.reads()
        self.conflicts()
        self.sums()
        self.real_time()


def check(versions, histories):
    """What is wrong, at most ten of it; and a line that tells how much was looked at."""
    checker = Checker()
    checker.load(versions, histories)
    checker.check()
    counts = ", ".join(f"{count} {name}" for name, count in sorted(checker.counts.items()))
    wrong = checker.wrong
    if not any(outcome in checker.counts for outcome in ("done", "read")):
        wrong = [*wrong, "the histories have no transaction that ended"]
    return wrong[:10], f"{sum(map(len, checker.versions.values()))} versions; {counts}"


def main():
    wrong, summary = check(sys.argv[1], sys.argv[2:])
    print(f"# {summary}")
    for line in wrong:
        print(f"# {line}")
    print("not ok - history" if wrong else "ok - history")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
