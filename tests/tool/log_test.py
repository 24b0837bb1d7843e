#!/usr/bin/env python3
"""tests/tool/log_test.py: `demi log`, over logs that an application made (log_maker.c) and that were damaged here. Prints TAP.

The command is $DEMI, else build/demi.
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEMI = os.environ.get("DEMI") or str(ROOT / "build" / "demi")
MAKER = Path(DEMI).parent / "tests" / "log_maker"
LIMIT_S = 60
SCRATCH = Path(tempfile.mkdtemp(prefix="demi-log-", dir="/var/tmp"))
SEGMENT = 65536
SEGMENTS_AT = 131072
SUPER_STRIDE = 65536
HEADER = 48  # of a record
ENVIRONMENT = {**{key: value for key, value in os.environ.items() if not key.startswith("DEMI_STORAGE") and key != "CONFIG_PATH"},
               "DEMI_STORAGE_SEGMENT_BYTES": str(SEGMENT), "XDG_RUNTIME_DIR": str(SCRATCH)}

tests = []


class Failure(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def check(truth, why):
    if not truth:
        raise Failure(why)


def log(*arguments, status=0, text=True, **environment):
    """Runs demi log, expects the status, returns both outputs."""
    done = subprocess.run([DEMI, "log", *map(str, arguments)], env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=LIMIT_S, text=text, check=False)
    check(done.returncode == status, f"demi log {' '.join(map(str, arguments))}: status {done.returncode}, not {status}: "
                                     f"{done.stderr!r} {done.stdout!r}")
    return done.stdout, done.stderr


def make(path, *steps, **environment):
    """The offsets of the records."""
    done = subprocess.run([MAKER, path, *steps], env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=LIMIT_S, text=True, check=False)
    check(done.returncode == 0, f"log_maker: {done.stderr}")
    return [int(word) for word in done.stdout.split()]


def fresh(name, *steps):
    path = SCRATCH / name
    path.unlink(missing_ok=True)
    return path, make(path, *steps)


def place_of(path, number):
    """Where the data of a record is in its file."""
    return path.read_bytes().index(b"record %d." % number)


def flip(path, offset, bits=0x40):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def info(path, **environment):
    return json.loads(log("info", path, "--json", **environment)[0])


def rows(path, *options, status=0):
    """The lines of dump below the heading, in words."""
    lines = log("dump", path, *options, status=status)[0].splitlines()
    return [line.split(maxsplit=4) for line in lines[2:]]


def unchanged(path, *commands, status=0):
    """Runs commands over a file that must stay as it is."""
    before = path.read_bytes()
    for command in commands:
        log(command, path, status=status)
    check(path.read_bytes() == before, f"{commands} changed the file")


@test
def help_and_usage():
    check("usage: demi log" in log("--help")[0], "--help")
    for command in ("info", "check", "dump"):
        check(f"usage: demi log {command}" in log(command, "--help")[0], f"{command} --help")
    for named, *arguments in [("nonsense", "nonsense"), ("--nonsense", "info", "x", "--nonsense"), ("--json", "check", "x", "--json"),
                              ("--count", "dump", "x", "--count", "0"), ("--from", "dump", "x", "--from", "-1"),
                              ("surplus", "info", "x", "surplus"), ("which", "info"),
                              ("storage", "info", "x", "--driver", "floppy")]:
        out, err = log(*arguments, status=2)
        check(out == "" and err.count("\n") == 1 and named in err, f"{arguments}: {err!r}")


@test
def info_tells_what_is_there():
    path, offsets = fresh("good", "push=100,1000", "truncate=40")
    what = info(path)
    check(what["device"] == str(path) and what["segment_bytes"] == SEGMENT and what["block_bytes"] in (512, 4096), str(what))
    check(what["capacity_bytes"] == path.stat().st_size, f"capacity {what['capacity_bytes']}")
    check(what["segments_used"] + what["segments_free"] == what["segments"] > 0, str(what))
    one, = what["logs"]
    check(one["name"] == "log" and one["head"] == offsets[40] and one["head_sequence"] == 41, str(one))
    check(one["end"] > offsets[-1] and one["end_sequence"] == 101 and one["records"] == 60, str(one))
    check(one["epoch"] == 1 and one["damaged"] is False, str(one))
    text = log("info", path)[0]
    for words in (f"offset {offsets[40]}, sequence 41", "records   60", "state     good", str(path)):
        check(words in text, f"no {words!r} in {text}")
    make(path)
    check(info(path)["logs"][0]["epoch"] == 2, "an opening is an epoch")
    unchanged(path, "info", "check", "dump")


@test
def check_of_what_is_good():
    for name, count, steps in [("good", 300, ["push=300,1000"]), ("none", 0, []), ("crashed", 7, ["push=7,5000", "crash"]),
                               ("long", 3, ["push=3,32000"]), ("truncated", 1, ["push=50,3000", "truncate=49"])]:
        path, _ = fresh(name, *steps)
        out, err = log("check", path)
        check(re.fullmatch(rf"{count} records?, \d+ bytes, \d+\.\d MB/s, 0 damages\n", out), f"{name}: {out!r}")
        check(err == "", f"{name}: {err!r}")
    check(f" {300 * 1000} bytes" in log("check", fresh("good", "push=300,1000")[0])[0], "bytes")


@test
def check_finds_damaged_data():
    path, offsets = fresh("data", "push=300,1000")
    flip(path, place_of(path, 17) + 900)
    flip(path, place_of(path, 200))
    unchanged(path, "check", status=1)
    lines = log("check", path, status=1)[0].splitlines()
    check(len(lines) == 3, str(lines))
    for line, number in zip(lines, (17, 200)):
        check(f"damage at offset {offsets[number]} up to " in line and f"sequence number {number + 1} is lost" in line, line)
    check(lines[-1].startswith("298 records, ") and lines[-1].endswith(", 2 damages, 2 records lost"), lines[-1])


@test
def check_finds_damaged_headers():
    path, _ = fresh("header", "push=300,1000")
    flip(path, place_of(path, 120) - HEADER + 8)
    lines = log("check", path, status=1)[0].splitlines()
    check(len(lines) == 2 and "sequence number 121 is lost" in lines[0], str(lines))


@test
def check_finds_a_damaged_end():
    path, _ = fresh("end", "push=100,1000")
    flip(path, place_of(path, 99))
    lines = log("check", path, status=1)[0].splitlines()
    check(len(lines) == 2 and "sequence number 100 is lost" in lines[0], str(lines))
    check(info(path)["logs"][0]["damaged"] is True, "info")
    check("state     damaged" in log("info", path)[0], "info")


@test
def check_finds_blocks_that_are_gone():
    path, _ = fresh("zeros", "push=300,1000")
    first = place_of(path, 150)
    with open(path, "r+b") as file:
        file.seek(first - first % 4096)
        file.write(bytes(8192))
    lines = log("check", path, status=1)[0].splitlines()
    lost = sum(int(count) for count in re.findall(r"(\d+) records? lost", lines[-1]))
    check(lost >= 2 and lines[-1].startswith(f"{300 - lost} records, "), str(lines))
    check(any("sequence numbers " in line for line in lines), str(lines))


@test
def a_damaged_segment_header_loses_nothing():
    path, _ = fresh("segment", "push=300,1000")
    flip(path, SEGMENTS_AT + SEGMENT + 8)
    before = path.read_bytes()
    out, err = log("check", path)
    check(out.startswith("300 records, ") and "header of a segment" in err, out + err)
    check(path.read_bytes() == before, "it was mended by a reader")


@test
def a_whole_segment_is_lost():
    path, _ = fresh("hole", "push=300,1000")
    with open(path, "r+b") as file:
        file.seek(SEGMENTS_AT + SEGMENT)
        file.write(os.urandom(SEGMENT))
    lines = log("check", path, status=1)[0].splitlines()
    lost, = map(int, re.findall(r"(\d+) records lost", lines[-1]))
    check(len(lines) == 2 and 10 < lost < 80 and lines[-1].startswith(f"{300 - lost} records, "), str(lines))


@test
def a_file_that_was_cut():
    path, _ = fresh("cut", "push=300,1000")
    os.truncate(path, SEGMENTS_AT + 3 * SEGMENT + 10000)
    unchanged(path, "check", "dump", status=1)
    lines = log("check", path, status=1)[0].splitlines()
    lost, = map(int, re.findall(r"(\d+) records lost", lines[-1]))
    check(f" to {300}" in lines[-2] and lines[-1].startswith(f"{300 - lost} records, "), str(lines))
    os.truncate(path, SEGMENTS_AT - 1)
    check(log("check", path, status=2)[1] != "", "of a piece of it")


@test
def one_superblock_is_enough():
    path, _ = fresh("super", "push=3,100")
    for slot in (0, 1):
        damaged = SCRATCH / "damaged"
        shutil.copy(path, damaged)
        flip(damaged, slot * SUPER_STRIDE + 100)
        check(log("check", damaged)[0].startswith("3 records, "), f"without superblock {slot}")
    flip(damaged, 100)
    for command in ("info", "check", "dump"):
        out, err = log(command, damaged, status=2)
        check(out == "" and "superblocks are damaged" in err and err.count("\n") == 1, out + err)


@test
def what_is_no_log():
    (SCRATCH / "empty").write_bytes(b"")
    (SCRATCH / "short").write_bytes(b"x" * 1000)
    (SCRATCH / "text").write_bytes(b"not a log\n" * 100000)
    for path, words in [("empty", "there is no log"), ("short", "no log"), ("text", "no log"), ("missing", "No such file"),
                        (".", "a directory"), ("/dev/null", "a character device")]:
        for command in ("info", "check", "dump"):
            out, err = log(command, SCRATCH / path, status=2)
            check(out == "" and words in err and err.count("\n") == 1, f"{path}: {err!r}")
    check(not (SCRATCH / "missing").exists(), "it was made")
    check((SCRATCH / "empty").stat().st_size == 0, "it was written")


@contextlib.contextmanager
def holder(path):
    process = subprocess.Popen([MAKER, path, "push=1,10", "hold"], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        while process.stdout.readline() not in (b"held\n", b""):
            pass
        yield process
    finally:
        process.stdin.close()
        process.wait(LIMIT_S)
        process.stdout.close()


@test
def a_log_that_is_open():
    path = SCRATCH / "held"
    with holder(path) as process:
        for command in ("info", "check", "dump"):
            out, err = log(command, path, status=2)
            check(out == "" and err == f"demi: {path} is in use by process {process.pid} (log_maker)\n", err)
    check(log("check", path)[0].startswith("1 record, 10 bytes, "), "after it")


@test
def a_log_whose_process_was_killed():
    """The kernel may have the file for a moment longer: that is nobody's."""
    for round_ in range(10):
        path = SCRATCH / f"killed{round_}"
        with holder(path) as process:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | (os.WNOWAIT if round_ % 2 else 0))  # reaped, or not yet
            check(log("check", path)[0].startswith("1 record, 10 bytes, "), "killed")
        make(path, "push=4,100", "crash")
        make(path, "push=4,100", "crash")
        check(log("check", path)[0].startswith("9 records, "), "crashed")


@test
def dump_prints_records():
    path, offsets = fresh("dump", "push=100,1000", "bytes", "push=1,12")
    lines = rows(path)
    check([int(line[0]) for line in lines] == offsets, "offsets")
    check([int(line[1]) for line in lines] == list(range(1, 103)), "sequence numbers")
    check(lines[5][2:] == ["1", "1000", '"record 5................" ...'], str(lines[5]))
    check(lines[100][2:] == ["1", "4", "000102ff"] and lines[101][2:4] == ["1", "12"], str(lines[100:]))
    check("..." not in lines[100][4] and not lines[101][4].endswith(" ..."), "short ones are whole")
    check(rows(path, "--count", "3") == lines[:3], "--count")
    check(rows(path, "--from", offsets[70]) == lines[70:], "--from")
    check(rows(path, "--from", offsets[70] + 1, "--count", "2") == lines[71:73], "--from behind it")
    check(rows(path, "--from", "1") == lines, "--from before the head")
    check(rows(path, "--from", offsets[-1] + 1000000) == [], "--from behind the end")
    check(rows(path, "--log", "log") == lines, "--log")
    check("there is no log" in log("dump", path, "--log", "other", status=2)[1], "--log of another")


@test
def dump_of_a_truncated_log():
    path, offsets = fresh("tail", "push=200,1000", "truncate=150")
    lines = rows(path)
    check([int(line[0]) for line in lines] == offsets[150:], "offsets")
    check(rows(path, "--from", offsets[10]) == lines, "--from before the head")


@test
def dump_writes_data():
    path, _ = fresh("raw", "push=30,3000", "bytes")
    data = b"".join((b"record %d" % i).ljust(3000, b".") for i in range(30)) + b"\0\1\2\xff"
    out, err = log("dump", path, "--raw", text=False)
    check(out == data and err == b"", f"{len(out)} bytes, not {len(data)}: {err}")
    check(log("dump", path, "--raw", "--count", "1")[0] == "record 0".ljust(3000, "."), "--count")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([DEMI, "log", "dump", path, "--raw"], env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, timeout=LIMIT_S,
                              check=False)
    check(done.returncode == 2 and b"could not be written" in done.stderr, str(done))


@test
def dump_of_damage():
    path, offsets = fresh("dumped", "push=100,1000")
    flip(path, place_of(path, 60))
    lines = rows(path, status=1)
    check([line[1] for line in lines] == [str(i) for i in range(1, 101)] and lines[60][0] == str(offsets[60]), "all but one")
    check(lines[60][2:] == ["damaged:", "1", "lost"] or " ".join(lines[60][2:]).startswith("damaged: 1 lost"), str(lines[60]))
    out, err = log("dump", path, "--raw", status=1)
    check(len(out) == 99 * 1000 and "damaged: 1 lost" in err, err)


@test
def several_logs_on_a_device():
    device = SCRATCH / "device"
    environment = {"DEMI_STORAGE_DEVICE": str(device)}
    for name, count in (("a", 10), ("b", 200), ("with space", 0)):
        make(name, f"push={count},1000", **environment)
    check([(one["name"], one["records"]) for one in info(device)["logs"]] == [("a", 10), ("b", 200), ("with space", 0)], "info")
    check(json.loads(log("info", "--json", **environment)[0]) == info(device), "the device of the configuration")
    make("\x1b[31mred\n", "push=1,10", **environment)
    for command in ("info", "check", "dump"):
        out, _ = log(command, device)
        check("\x1b" not in out and 'log "\\x1b[31mred\\x0a"' in out, f"{command}: {out!r}")
    check(info(device)["logs"][3]["name"] == "\x1b[31mred\n", "the name in JSON")
    flip(device, device.read_bytes().index(b"record 150."))
    lines = log("check", device, status=1)[0].splitlines()
    check(lines[0].startswith('log "a": 10 records') and lines[1].startswith('log "b": damage') and
          lines[2].startswith('log "b": 199 records') and lines[-1].startswith("210 records"), str(lines))
    check(len(rows(device, "--log", "a")) == 10, "dump --log")
    out, _ = log("dump", device, status=1)
    check(all(f'log "{name}"\n' in out for name in ("a", "b", "with space")), "dump of all")
    for options in (["--raw"], ["--from", "5000"]):
        check("which one" in log("dump", device, *options, status=2)[1], f"{options} of several")


@test
def other_drivers():
    path, _ = fresh("driver", "push=20,1000")
    for driver in ("uring", "thread"):
        check(log("check", path, "--driver", driver)[0].startswith("20 records"), driver)
    check(log("check", path, "--driver", "vhost", status=2)[1] != "", "a file is no daemon")


def main():
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for count, function in enumerate(tests, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
        except (Failure, subprocess.TimeoutExpired, ValueError, KeyError, IndexError, OSError) as why:
            failed += 1
            text = f"{type(why).__name__}: {why}".replace("\n", "\n# ")
            print(f"not ok {count} - {name}\n# {text}", flush=True)
        else:
            print(f"ok {count} - {name}", flush=True)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
