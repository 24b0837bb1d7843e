#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/lab/cut.py [N]: cuts the power of the lab's guest N times (default 3) while it appends to a log on a drive with a
volatile write cache; after each cut the log's promises are checked (tests/lab/append.c). Prints TAP.

The log is on the drive `cached` by the driver uring, or on `through` by nvme-uring (tests/lab/README.md), in turn, and polls in turn. Environment:
DEMI_SEED, of when the power is cut.
"""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build/lab/results"
DRIVERS = ["uring", "nvme-uring"]
IDLES = ["busy", "adaptive"]  # busy, uring polls its drive
BOOT_S = 240       # a guest's time until it appends, on a busy machine
APPENDS_S = 2      # then it appends for this long at most
RECOVERS_S = 1     # one of five is cut so soon after it begins: in recovery
OUTPUT = ROOT / "build/lab/cut.log"


class Broken(Exception):
    """What must not be; its text says what."""


def said():
    return OUTPUT.read_text(errors="replace").strip()


class Guest:
    """One boot, from --keep on what the last one left."""

    def __init__(self, *words, keep=True):
        for path in (RESULTS / "begun", *RESULTS.glob("*.ready")):
            path.unlink(missing_ok=True)
        with OUTPUT.open("w", encoding="utf-8") as output:
            self.lab = subprocess.Popen([ROOT / "tools/lab", "--limit", str(BOOT_S), *(["--keep"] if keep else []), "run",
                                         "tests/lab/cut.sh", *words],
                                        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def qemu(self):
        """Its process: the one child of tools/lab."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, fields = path.read_text().rsplit(") ", 1)
            except OSError:  # it has ended
                continue
            if int(fields.split()[1]) == self.lab.pid and "(qemu" in name:
                return int(path.parent.name)
        raise Broken(f"no QEMU: {said()}")

    def wait_for(self, name):
        """Until the guest has made that file."""
        end = time.monotonic() + BOOT_S
        while not (RESULTS / name).exists():
            if self.lab.poll() is not None:
                raise Broken(f"status {self.lab.returncode}: {said()}")
            if time.monotonic() > end:
                raise Broken(f"no {name} after {BOOT_S} s: {said()}")
            time.sleep(0.01)

    def cut(self):
        """All that QEMU has in its memory is lost. That tools/lab ends by itself then, with status 1, is what we want."""
        qemu = self.qemu()
        if self.lab.poll() is not None:
            raise Broken(f"it ended by itself, status {self.lab.returncode}: {said()}")
        os.kill(qemu, signal.SIGKILL)
        self.lab.wait(60)
        if (RESULTS / "status").exists():
            raise Broken(f"its program had ended: {said()}")

    def end(self):
        """Lets it come to its end; what it said."""
        if self.lab.wait(BOOT_S + 60):
            raise Broken(f"status {self.lab.returncode}: {said()}")
        return said()


def available():
    """None, or why there is no lab."""
    done = subprocess.run([ROOT / "tools/lab", "--scripts", "tests/lab/cases", "test", "gone"], cwd=ROOT, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return next((line.split("# SKIP ")[1] for line in done.stdout.splitlines() if "# SKIP " in line), None)


def volatile():
    """Else nothing would be tested here."""
    guest = Guest("mark", keep=False)
    guest.wait_for("mark.ready")
    guest.cut()
    there = Guest("marked").end().splitlines()
    if there != ["cached: flushed", "through: flushed", "through: not flushed"]:
        raise Broken("after the cut there are: " + "; ".join(there))


def cuts(count, prng):
    """Cut by cut; what the guest said."""
    for number in range(count):
        driver = DRIVERS[number % len(DRIVERS)]
        guest = Guest("append", driver, IDLES[number // len(DRIVERS) % len(IDLES)])
        in_recovery = number % 5 == 4
        guest.wait_for("begun" if in_recovery else f"{driver}.ready")
        time.sleep(prng.uniform(0, RECOVERS_S if in_recovery else APPENDS_S))
        guest.cut()
        yield "".join(f"{line}\n" for line in said().splitlines() if line.startswith("#"))


def totals():
    """Of the states that the guests left: how many records were appended, lost, and there without having been acknowledged."""
    states = [[int(word) for word in (RESULTS / driver).read_text().split()] for driver in DRIVERS if (RESULTS / driver).exists()]
    return [sum(state[place] for state in states) for place in (0, 4, 5)]


def main(count):
    why = available()
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    seed = int(os.environ.get("DEMI_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"1..{count + 2}\n# DEMI_SEED={seed}", flush=True)
    done = 0
    test = "a cut loses what was not flushed, and only that"
    try:
        volatile()
        done += 1
        print(f"ok {done} - {test}", flush=True)
        test = "cut"
        for comment in cuts(count, random.Random(seed)):
            done += 1
            print(f"ok {done} - cut\n{comment}", end="", flush=True)
        test = "the logs after the last cut"
        checked = Guest("check").end()
        records, lost, unsure = totals()
        if not records:
            raise Broken("nothing was appended")
        print(f"ok {done + 1} - {test}\n{checked}")
    except (Broken, subprocess.TimeoutExpired) as trouble:
        print(f"not ok {done + 1} - {test}", *(f"# {line}" for line in str(trouble).splitlines()), sep="\n")
        return 1
    print(f"# {lost} records were pushed and lost, {unsure} there, none of them acknowledged")
    print(f"# {count} cuts, {records} records")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
