#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/lab itself: what it makes of scripts that fail, skip and do not end (tests/lab/cases), of a guest that does not end,
and of a machine without QEMU. Prints TAP; run by tools/test before the lab's own scripts.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = "tests/lab/cases"


def lab(*arguments, **environment):
    return subprocess.run([ROOT / "tools/lab", *arguments], cwd=ROOT, env={**os.environ, **environment}, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def without_qemu(directory):
    """A PATH, made in the directory, with what tools/lab needs to run, and no QEMU."""
    for program in ("python3", "env", "sh", "awk", "dpkg-query", "sed", "tr", "sort", "apt-get", "id", "dirname"):
        found = next(Path(path) / program for path in os.environ["PATH"].split(":") if (Path(path) / program).exists())
        (Path(directory) / program).symlink_to(found)
    return directory


def outcomes():
    done = lab("--scripts", CASES, "test")
    # fails, gone, hangs, skips: the order of their names
    expected = ["1..4", "not ok 1 - fails", "# it is not so", "ok 2 - gone", "not ok 3 - hangs", "# begun", "# no end after 1 s",
                "ok 4 - skips # SKIP there is no such device", "1 passed, 2 failed, 1 skipped"]
    said = [line.strip() for line in done.stdout.splitlines() if not (line.startswith("# ") and line.endswith(" s") and len(line) < 12)]
    assert said == expected, done.stdout
    assert done.returncode == 1, done.returncode


def status():
    done = lab("run", "/bin/sh", "-c", "echo there; exit 9")
    assert done.stdout == "there\n" and done.returncode == 9, f"{done.stdout}, status {done.returncode}"


def limit():
    done = lab("--limit", "4", "run", "/bin/sleep", "1000")
    assert done.returncode == 1 and "the guest was ended after 4 s" in done.stderr, f"{done.stderr}, status {done.returncode}"


def nothing_there():
    with tempfile.TemporaryDirectory() as directory:
        done = lab("--scripts", CASES, "test", PATH=without_qemu(directory))
    lines = done.stdout.splitlines()
    assert len([line for line in lines if "# SKIP no qemu-system-x86_64" in line]) == 4, done.stdout
    assert lines[-1] == "0 passed, 0 failed, 4 skipped" and done.returncode == 0, done.stdout


def little_space():
    """On a disk of 99 MiB, as tools/lab sees it."""
    full = ("import runpy, shutil, sys, types; shutil.disk_usage = lambda path: types.SimpleNamespace(free=99 << 20); "
            f"sys.argv[1:] = ['--scripts', '{CASES}', 'test']; runpy.run_path('tools/lab', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", full], cwd=ROOT, text=True, timeout=120, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    lines = done.stdout.splitlines()
    assert len([line for line in lines if "# SKIP 99 MiB are free at " in line]) == 4, done.stdout + done.stderr
    assert lines[-1] == "0 passed, 0 failed, 4 skipped" and done.returncode == 0, done.stdout


def elsewhere():
    done = lab("run", "/tmp/script.sh")
    assert done.returncode == 1 and "has /tmp and /run of its own" in done.stderr, done.stderr


def no_such():
    done = lab("test", "nothing")
    assert done.returncode == 1 and re.search(r"no script nothing; there are .*\bboot\b", done.stderr), done.stderr


def main():
    tests = [elsewhere, no_such, nothing_there]
    available = "# SKIP" not in lab("--scripts", CASES, "test", "gone").stdout
    if available:
        tests += [outcomes, status, limit, little_space]
    print(f"1..{len(tests)}")
    failed = 0
    for number, test in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} - {test.__name__}", flush=True)
        except AssertionError as error:
            failed = 1
            print(f"not ok {number} - {test.__name__}\n" + "".join(f"# {line}\n" for line in str(error).splitlines()), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
