#!/usr/bin/env python3
"""tests/tool/demi_test.py: the `demi` command, used as its users do. Prints TAP; each step is bounded.

The command is $DEMI, else build/demi.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEMI = os.environ.get("DEMI") or str(ROOT / "build" / "demi")
LIMIT_S = 20
HAVE_XDP, HAVE_DPDK, HAVE_RDMA = (any((Path(place) / f"libdemitasse-{name}.so").exists()
                           for place in (os.environ.get("DEMI_PLUGIN_DIR") or Path(DEMI).parent, Path(DEMI).parent))
                       for name in ("xdp", "dpdk", "rdma"))
ECHO_KEYS = ["what", "libos", "device", "proto", "size_bytes", "connections", "depth", "rtt_min_ns", "rtt_p50_ns", "rtt_p90_ns",
             "rtt_p99_ns", "rtt_p999_ns", "rtt_max_ns", "requests_per_s", "server_cpu_ns_per_request"]
CORE_KEYS = ["what", "memory_queue_roundtrip_ns", "coroutine_switch_ns", "coroutine_switch_tsc", "operation_ns", "wait_any_1_ns",
             "wait_any_100_ns", "wait_any_10000_ns", "syscall_ns",
             *[f"{name}_{size}_ns" for name in ("heap", "malloc", "mimalloc") for size in (64, 1024, 16384)]]
RUNTIME = tempfile.mkdtemp(prefix="demi-test-")
ENVIRONMENT = {**os.environ, "XDG_RUNTIME_DIR": RUNTIME}

tests = []
count = failed = 0


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def check(truth, why):
    if not truth:
        raise Failure(why)


def demi(*arguments, status=0):
    """Runs the command, expects the status, returns both outputs."""
    done = subprocess.run([DEMI, *arguments], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT_S, text=True, check=False)
    check(done.returncode == status,
          f"demi {' '.join(arguments)}: status {done.returncode}, not {status}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout, done.stderr


def rows(*arguments):
    return json.loads(demi(*arguments, "--json", "-")[0])


def echo_row(*arguments, rounds=200):
    row = rows("bench", "echo", *arguments, "--rounds", str(rounds), "--reference", "none")[0]
    for key in ECHO_KEYS:
        check(key in row, f"no {key} in the row of {arguments}")
    check(row["errors"] == 0, f"{row['errors']} errors of {arguments}")
    check(row["requests"] == rounds, f"{row['requests']} requests, not {rounds}, of {arguments}")
    order = [row[f"rtt_{name}_ns"] for name in ("min", "p50", "p90", "p99", "p999", "max")]
    check(order == sorted(order) and order[0] > 0, f"round trips out of order: {order}")
    return row


@test
def version_and_help():
    check(re.fullmatch(r"demi \d+\.\d+\.\d+\n", demi("version")[0]), "version")
    check(demi("--version") == demi("version"), "--version")
    check("doctor" in demi("--help")[0], "--help")
    check("echo" in demi("bench", "--help")[0], "bench --help")
    for command in (["bench", "echo"], ["bench", "size"], ["bench", "core"], ["bench", "log"], ["bench", "net"], ["bench", "operators"],
                    ["bench", "proxy"], ["doctor"], ["stat"], ["capture"],
                    ["run"]):
        check("usage: demi" in demi(*command, "--help")[0], f"{command} --help")


@test
def bad_options_are_named():
    for named, *arguments in [
            ("nonsense", "nonsense"), ("nonsense", "bench", "nonsense"),
            ("--sizes", "bench", "echo", "--sizes", "3"), ("--size", "bench", "echo", "--size", "0"),
            ("--size", "bench", "echo", "--size", "1e9"), ("--size", "bench", "echo", "--size"),
            ("--size", "bench", "echo", "--proto", "udp", "--size", "1"), ("--depth", "bench", "echo", "--depth", "x"),
            ("--libos", "bench", "echo", "--libos", "catfish"), ("--device", "bench", "echo", "--libos", "raw"),
            ("--proto", "bench", "echo", "--proto", "sctp"), ("--idle", "bench", "echo", "--idle", "|"),
            ("--device", "bench", "echo", "--device", "x"), ("--role", "bench", "echo", "--libos", "catpowder"),
            ("--role", "bench", "size", "--libos", "catpowder"),
            ("--address", "bench", "echo", "--libos", "catpowder", "--role", "client", "--port", "1"), ("--rate", "bench", "echo", "--rate", "10,,5"),
            ("--reference", "bench", "echo", "--reference", "catfish"), ("--port", "bench", "echo", "--role", "client"),
            ("--address", "bench", "echo", "--address", "localhost"), ("--only", "bench", "core", "--only", "x"),
            ("--size", "bench", "size", "--size", "3"),
            ("--only", "bench", "log", "--only", "x"), ("--part", "bench", "log", "--part", "x"),
            ("--log", "bench", "echo", "--log", "--proto", "udp"),
            ("shm", "bench", "echo", "--device", "shm"), ("shm", "bench", "echo", "--libos", "raw", "--device", "shm", "--role", "server"),
            ("--libos", "bench", "echo", "--libos", "raw", "--device", "shm", "--depth", "2"), ("pipe", "bench", "echo", "--libos", "pipe"),
            ("--libos", "bench", "echo", "--libos", "catmem", "--depth", "2"), ("--libos", "bench", "echo", "--libos", "catmem", "--connections", "2"),
            ("--role", "bench", "echo", "--libos", "catmem", "--role", "server"), ("--libos", "bench", "echo", "--libos", "catmem", "--log"),
            ("--size", "bench", "echo", "--one-way", "--size", "7"), ("--depth", "bench", "echo", "--one-way", "--depth", "2"),
            ("one way", "bench", "echo", "--one-way", "--libos", "posix-spin"), ("--one-way", "bench", "size", "--one-way"),
            ("--reference", "bench", "echo", "--log", "--reference", "io_uring"),
            ("--only", "bench", "operators", "--only", "x"), ("--count", "bench", "operators", "--count", "1"),
            ("--libos", "bench", "proxy", "--libos", "catfish"), ("--reference", "bench", "proxy", "--reference", "splice,catfish"),
            ("--device", "bench", "proxy", "--libos", "catpowder"), ("--device", "bench", "proxy", "--device", "tap"),
            ("--message", "bench", "proxy", "--message", "7"), ("--part", "bench", "proxy", "--part", "x"),
            ("--only", "bench", "net", "--only", "x"), ("--part", "bench", "net", "--part", "x"),
            ("--stack", "bench", "net", "--only", "rx_ack", "--stack", "x"), ("--pairs", "bench", "net", "--pairs", "0"),
            ("surplus", "bench", "core", "surplus"), ("-x", "doctor", "-x"), ("abc", "stat", "abc"), ("capture", "capture", "1"),
            ("abc", "capture", "abc", "/dev/null"), ("--seconds", "capture", "1", "/dev/null", "--seconds", "x")]:
        out, err = demi(*arguments, status=2)
        check(out == "" and err.count("\n") == 1 and named in err, f"{arguments}: {err!r}")


@test
def doctor_tells_capabilities():
    lines = demi("doctor")[0].splitlines()
    for name in ("io_uring", "huge pages", "memlock", "CAP_NET_RAW", "TAP", "CAP_BPF", "AF_XDP", "DPDK", "RDMA", "NVMe", "cores"):
        check(sum(bool(re.match(rf"(OK|WARN|MISSING) +{name} ", line)) for line in lines) == 1, f"no line of {name}")
    check(any(re.match(r"(OK|MISSING) +catpowder ", line) for line in lines), "no line of catpowder")
    check(any(re.match(r"OK +catnap ", line) for line in lines), "catnap does not run")
    findings = rows("doctor")
    check({"what", "name", "level", "detail", "mend"} <= set(findings[0]), "keys of the findings")
    names = [row["name"] for row in findings if row["what"] == "afxdp"]
    check(names == ["kernel", "XDP sockets", "XDP programs", "capabilities", "memory", "bpffs", "plug-in", "helper", "all together"],
          f"what AF_XDP needs: {names}")
    check(not any(row["what"] == "interface" for row in findings), "no interface was named")


@test
def the_doctor_lists_what_dpdk_could_drive():
    findings = {row["name"]: row for row in rows("doctor") if row["what"] == "dpdk"}
    check(list(findings)[:2] == ["virtual", "vfio"], str(list(findings)))
    if HAVE_DPDK:
        check("net_memif net_vhost net_virtio_user" in findings["virtual"]["detail"], str(findings["virtual"]))
    cards = sorted(path.name for path in Path("/sys/bus/pci/devices").glob("*") if (path / "class").read_text().startswith("0x02"))
    check(list(findings)[2:] == cards[:16], f"{list(findings)} {cards}")
    for card in cards[:16]:
        interfaces = [path.name for pattern in ("net/*", "*/net/*") for path in Path(f"/sys/bus/pci/devices/{card}").glob(pattern)]
        bound = "DEMI_DPDK_DEVICE" in findings[card]["detail"]
        check(bound or f"--bind=vfio-pci {card}" in findings[card]["mend"], str(findings[card]))
        check(bound or not interfaces or interfaces[0] in findings[card]["detail"], f"{interfaces} {findings[card]}")


def rdma_devices():
    return sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))


@test
def the_doctor_lists_what_rdma_needs():
    findings = {row["name"]: row for row in rows("doctor") if row["what"] == "rdma"}
    devices = rdma_devices()[:8]
    check(list(findings) == ["plug-in", "drivers", "rdma_cm", "memory", *(devices or ["devices"]), "all together"], str(list(findings)))
    check((findings["plug-in"]["level"] == "OK") == HAVE_RDMA, str(findings["plug-in"]))
    if not devices:
        check("rdma link add rxe0 type rxe netdev" in findings["devices"]["mend"], str(findings["devices"]))
        check(findings["all together"]["level"] == "MISSING", str(findings["all together"]))
        check(not HAVE_RDMA or "no RDMA" in findings["all together"]["detail"], str(findings["all together"]))


@test
def the_benchmark_over_rdma_says_what_is_missing():
    arguments = ["bench", "echo", "--libos", "catmint", "--reference", "none", "--rounds", "100"]
    if rdma_devices():
        raise Skip("machine: it has an RDMA device; the lab measures over one")
    out, err = demi(*arguments, status=1)
    check(("no RDMA" if HAVE_RDMA else "libdemitasse-rdma.so") in err and "no floor" not in err, err)
    for named, *more in [("catmint cannot", "--client", "posix-spin"),
                         ("finds its device by --address", "--device", "x")]:
        out, err = demi(*arguments[:4], *more, status=2)
        check(named in err and out == "", err)


@test
def the_main_job_runs():
    with tempfile.TemporaryDirectory() as directory:
        demi("run", "--seconds", "0.02", "--json", f"{directory}/rows")
        names = {row["libos"] for row in json.loads(Path(directory, "rows").read_text())}
    check({"catnap", "posix-block", "posix-spin", "posix-epoll", "unix-block"} <= names, str(names))
    check(not names & {"raw", "lwip"}, f"{names}: they need a device")


@test
def baselines_echo_tcp():
    for name in ("posix-block", "posix-spin", "posix-epoll", "unix-block"):
        check(echo_row("--libos", name)["libos"] == name, name)


@test
def io_uring_echoes():
    uring = next(row for row in rows("doctor") if row["name"] == "io_uring")
    if uring["level"] != "OK":
        raise Skip(f"io_uring: {uring['detail']}")
    for name in ("io_uring", "io_uring-block"):
        echo_row("--libos", name)
        echo_row("--libos", name, "--size", "200000", "--depth", "8")
    echo_row("--libos", "io_uring", "--connections", "20", "--depth", "4")


@test
def cache_lines_are_passed():
    row = echo_row("--libos", "raw", "--device", "shm")
    check((row["device"], row["proto"], row["size_bytes"]) == ("shm", "shm", 48), str(row))
    check(echo_row("--libos", "raw", "--device", "shm", "--size", "20")["size_bytes"] == 20, "smaller ones")
    one, unix, tcp = rows("bench", "echo", "--libos", "raw", "--device", "shm", "--rounds", "100", "--pairs", "2")
    check((unix["libos"], tcp["libos"], one["reference"]) == ("unix-block", "posix-block", "unix-block"), f"{unix} {tcp}")
    check(0 < one["ratio"] < 1 and one["errors"] == 0, str(one))


@test
def messages_go_one_way():
    for size in ("64", "65536"):
        table = rows("bench", "echo", "--one-way", "--libos", "catnap", "--size", size, "--rounds", "1000", "--pairs", "2")
        check([row["libos"] for row in table] == ["catnap", "pipe", "unix-block", "posix-block"], str(table))
        for row in table:
            check((row["what"], row["requests"], row["errors"]) == ("one-way", row["runs"] * 1000, 0), str(row))
            check(abs(row["bytes_per_s"] / (row["requests_per_s"] * int(size)) - 1) < 0.001 and "rtt_p50_ns" not in row, str(row))
        check(table[0]["requests_ratio"] > 0 and "ratio" not in table[0] and table[1]["proto"] == "pipe", str(table[0]))
    row, = rows("bench", "echo", "--one-way", "--libos", "raw", "--device", "shm", "--rounds", "100000", "--reference", "none")
    check((row["requests"], row["errors"], row["size_bytes"]) == (100000, 0, 48), str(row))


@test
def baselines_echo_udp():
    for name in ("posix-block", "posix-spin", "posix-epoll"):
        echo_row("--libos", name, "--proto", "udp", "--depth", "2")


@test
def large_and_deep_and_many():
    for name in ("posix-block", "posix-spin", "posix-epoll", "catnap"):
        echo_row("--libos", name, "--size", "256Ki", "--depth", "16", rounds=100)
        echo_row("--libos", name, "--connections", "50", "--depth", "3")
    echo_row("--libos", "catnap", "--connections", "10", "--client", "catnap", "--size", "100000", "--depth", "5")


@test
def catnap_echoes():
    for idle in ("adaptive", "busy"):
        for proto in ("tcp", "udp"):
            row = echo_row("--libos", "catnap", "--idle", idle, "--proto", proto)
            check((row["idle"], row["proto"], row["client"]) == (idle, proto, "catnap"), str(row))
    echo_row("--libos", "catnap", "--size", "1")
    echo_row("--libos", "catnap", "--address", "::1")
    echo_row("--libos", "catnap", "--address", "::1", "--proto", "udp")


@test
def a_comparison_has_its_ratio():
    table = rows("bench", "echo", "--reference", "posix-epoll,posix-spin", "--pairs", "3", "--rounds", "100",
                 "--connections", "4")
    check([row["libos"] for row in table] == ["catnap", "posix-epoll", "posix-spin"], "rows")
    first = table[0]
    check((first["reference"], first["pairs"]) == ("posix-epoll", 3), str(first))
    check(all(first[key] > 0 for key in ("ratio", "requests_ratio", "cpu_ratio")), str(first))
    check(all(row["client"] == "generator" for row in table), "one generator for all")
    check("ratio" not in table[1], "a reference is compared with nothing")


@test
def sizes_are_swept():
    table = rows("bench", "size", "--libos", "posix-spin", "--seconds", "0.01")
    check([row["size_bytes"] for row in table] == [64 * 4 ** step for step in range(7)], "sizes")
    check(all(row["errors"] == 0 for row in table), "errors")


@test
def open_loop_keeps_its_rate():
    with tempfile.TemporaryDirectory() as directory:
        plot = Path(directory) / "load.svg"
        table = rows("bench", "echo", "--libos", "posix-epoll", "--rate", "1000,2000", "--seconds", "0.5", "--plot", str(plot))
        check([row["rate_per_s"] for row in table] == [1000, 2000], "rates")
        for row in table:
            check(0.5 < row["requests_per_s"] / row["rate_per_s"] < 1.5, f"offered {row['rate_per_s']}: {row['requests_per_s']}")
        if shutil.which("gnuplot"):
            check("<svg" in plot.read_text(), "plot")


@test
def core_has_all_figures():
    tails = {(row["policy"], row["requests"]): row["p999_ns"] for row in rows("bench", "schedule", "--requests", "100k")}
    check(tails["completion", "short"] > 10 * tails["reserved", "short"], f"the tail of short requests: {tails}")
    row, = rows("bench", "core", "--quick", "--repeats", "1")
    check(row["what"] == "core", "what")
    for key in CORE_KEYS:
        check(key in row, f"no {key}")
        check(key.startswith("mimalloc") or key == "what" or row[key] > 0, f"{key} is {row[key]}")
    demi("bench", "core", "--only", "wait_any_100", "--count", "100")


LOG_KEYS = ("latency_p50_ns", "latency_p99_ns", "records_per_s", "bytes_per_s")


@test
def logs_are_measured():
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        table = rows("bench", "log", "--file", str(path), "--pairs", "2", "--seconds", "0.002")
        check(not any(Path(directory).iterdir()), "the file is gone")
        path.write_text("something")
        check(str(path) in demi("bench", "log", "--part", "pop", "--file", str(path), status=1)[1], "it makes its file")
        check(path.read_text() == "something", "and leaves another alone")
    found = [(row["what"], row["size_bytes"], row["outstanding"]) for row in table]
    check(found == [(what, size, outstanding) for what in ("append", "append-software", "pop") for size in (64, 4096)
                    for outstanding in (1, 32)], f"rows: {found}")
    for row in table:
        check(all(row[key] > 0 for key in LOG_KEYS), str(row))
        alone = (row["what"], row["outstanding"]) == ("append-software", 1)
        check((row["reference"] is None) == (row["ratio"] is None) == alone, str(row))
        check(alone or row["ratio"] > 0 and row["reference_p50_ns"] > 0, str(row))
    for key in ("append_64", "append_4096"):
        demi("bench", "log", "--only", key, "--count", "100")


@test
def catmem_echoes():
    for idle in ("adaptive", "busy"): # adaptive: the server sleeps before its client is there
        for size in ("1", "48", "64", "5000", "200000"):
            row = echo_row("--libos", "catmem", "--idle", idle, "--size", size)
            check((row["device"], row["proto"], row["client"], row["idle"]) == ("shm", "shm", "catmem", idle), str(row))
    one, *others = rows("bench", "echo", "--libos", "catmem", "--pairs", "2", "--rounds", "200", "--size", "48")
    check([row["libos"] for row in others] == ["raw", "unix-block", "posix-block"] and others[0]["device"] == "shm", str(others))
    check(one["reference"] == "raw" and one["ratio"] > 0 and all(row["errors"] == 0 and row["runs"] == 2 for row in (one, *others)), str(one))


@test
def catloop_echoes():
    for arguments in ([], ["--idle", "busy", "--size", "48"], ["--size", "200000"], ["--connections", "10", "--depth", "3"], ["--depth", "8"],
                      ["--proto", "udp"], ["--proto", "udp", "--connections", "5"], ["--log"]):
        row = echo_row("--libos", "catloop", *arguments)
        check((row["device"], row["client"]) == ("shm", "catloop"), str(row))
    one, *others = rows("bench", "echo", "--libos", "catloop", "--pairs", "2", "--rounds", "200", "--size", "48")
    check([row["libos"] for row in others] == ["raw", "unix-block", "posix-block"], str(others))
    check(one["reference"] == "raw" and one["ratio"] > 0 and one["errors"] == 0, str(one))
    row, = rows("bench", "echo", "--libos", "catloop", "--one-way", "--rounds", "3000", "--reference", "none")
    check((row["requests"], row["errors"]) == (3000, 0), str(row))
    with server("--libos", "catloop") as (_, port):
        row, = rows("bench", "echo", "--libos", "catloop", "--role", "client", "--port", port, "--rounds", "100")
        check((row["requests"], row["errors"]) == (100, 0), str(row))


@test
def catmem_goes_one_way():
    for size in ("8", "64", "65536"):
        one, *others = rows("bench", "echo", "--libos", "catmem", "--one-way", "--size", size, "--pairs", "2", "--rounds", "3000")
        check([row["libos"] for row in others] == ["pipe", "unix-block", "posix-block", "raw"], str(others))
        check((one["requests"], one["errors"], one["proto"]) == (6000, 0, "shm") and one["requests_ratio"] > 0, str(one))


OPERATORS = ("queue", "filter", "map", "sort", "merge", "frame", "queue_16", "sort_16", "qconnect")


@test
def operators_are_measured():
    table = rows("bench", "operators", "--repeats", "3", "--count", "5000")
    check([row["operator"] for row in table] == list(OPERATORS), str(table))
    for row in table:
        check((row["what"], row["size_bytes"], row["repeats"]) == ("operators", 64, 3) and row["element_ns"] > 0, str(row))
        check(0.99 < row["element_ns"] * row["elements_per_s"] / 1e9 < 1.01, str(row))
        alone = row["operator"] in ("queue", "queue_16", "qconnect")
        check((row["hop_ns"] is None) == (row["reference"] is None) == alone, str(row))
        check(alone or -row["element_ns"] < row["hop_ns"] < row["element_ns"], str(row))
    for key in OPERATORS:
        demi("bench", "operators", "--only", key, "--count", "5000")


def check_proxies(table, names, pairs):
    check([(row["what"], row["libos"]) for row in table] == [(what, name) for what in ("proxy", "proxy-one-way") for name in names], str(table))
    for row in table:
        check((row["errors"], row["runs"]) == (0, pairs) and row["requests"] > 0 and row["requests_per_s"] > 0, str(row))
        check((row["what"] == "proxy") == ("rtt_p50_ns" in row) != ("bytes_per_s" in row), str(row))
    for row in table[::len(names)]:
        check((row["reference"], row["pairs"]) == (names[1], pairs) and row["ratio" if row["what"] == "proxy" else "requests_ratio"] > 0, str(row))


def installed_proxies():
    return ["splice", *(["haproxy"] if os.access("/usr/sbin/haproxy", os.X_OK) else []), "none"]


@test
def proxies_are_measured():
    before = leftovers()
    check_proxies(rows("bench", "proxy", "--pairs", "2", "--seconds", "0.05"), ["catnap", *installed_proxies()], 2)
    row, = rows("bench", "proxy", "--libos", "splice", "--reference", "", "--part", "latency", "--size", "100000", "--pairs", "1", "--seconds", "0.05")
    check((row["libos"], row["size_bytes"], row["errors"], row["idle"]) == ("splice", 100000, 0, "block") and row["requests"] > 0, str(row))
    row, = rows("bench", "proxy", "--reference", "", "--part", "throughput", "--message", "1000", "--idle", "busy", "--pairs", "1", "--seconds", "0.05")
    check((row["size_bytes"], row["idle"], row["errors"]) == (1000, "busy", 0), str(row))
    check(leftovers() == before, f"{before} {leftovers()}")


@test
def proxies_are_measured_on_a_link():
    if os.geteuid() != 0:
        out, err = demi("bench", "proxy", "--libos", "splice", "--device", "veth", status=1)
        check("root" in err, err)
        raise Skip("privilege: network namespaces need root")
    before = leftovers()
    for device in ("afpacket", *(["veth"] if HAVE_XDP else [])):
        table = rows("bench", "proxy", "--libos", "catpowder", "--device", device, "--pairs", "2", "--seconds", "0.05")
        check_proxies(table, ["catpowder", *installed_proxies()], 2)
        check(table[0]["device"] == device and table[1]["device"] == "veth", str(table))
    check(leftovers() == before, f"{before} {leftovers()}")


@test
def an_echo_is_logged():
    names = ("posix-epoll", "posix-spin", "posix-block")
    with tempfile.TemporaryDirectory() as directory:
        for connections in ("1", "5"):
            servers = names if connections == "1" else names[:1]
            table = rows("bench", "echo", "--log-file", str(Path(directory) / "log"), "--rounds", "20", "--pairs", "1",
                         "--connections", connections, "--reference", ",".join(servers))
            check([row["libos"] for row in table] == ["catnap+log"] + [f"{name}+fdatasync" for name in servers], "rows")
            check(all((row["requests"], row["errors"]) == (20, 0) for row in table), str(table))
            check(table[0]["reference"] == "posix-epoll+fdatasync" and table[0]["ratio"] > 0, str(table[0]))
        check(not any(Path(directory).iterdir()), "the files are gone")


def net_rows(part, *arguments):
    return rows("bench", "net", "--part", part, "--pairs", "3", "--rounds", "64", "--idle-connections", "100",
                "--no-instructions", *arguments)


def has_lwip():
    return (Path(DEMI).parent / "demi-bench-lwip.so").exists()


@test
def bench_net_compares_requests():
    for connections in (1, 32):
        ours, *others = net_rows(f"request_{connections}")
        check((ours["what"], ours["stack"], ours["connections"], ours["size_bytes"]) ==
              ("request", "demitasse", connections, 64), str(ours))
        check([row["stack"] for row in others] == ["lwip"] * has_lwip(), str(others))
        for row in (ours, *others):
            check(row["request_ns"] > 0 and row["requests_per_s"] > 0, str(row))
            check(row["request_instructions"] is None, "counted in spite of --no-instructions")
        if others:
            check((ours["reference"], ours["pairs"]) == ("lwip", 3), str(ours))
            check(0.9 < ours["ratio"] * ours["requests_ratio"] < 1.1, f"ratios that are not inverse: {ours}")


@test
def bench_net_moves_bulk():
    for size in (1460, 9000):
        for row in net_rows(f"bulk_{size}"):
            check((row["what"], row["size_bytes"], row["connections"]) == ("bulk", size, 1), str(row))
            check(row["bits_per_s"] > 0 and "request_ns" not in row, str(row))


def sanitized():
    return b"__asan_init" in Path(DEMI).read_bytes()


@test
def bench_net_scales():
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip("machine: one core")
    row, = net_rows("scale")
    check((row["what"], row["stack"], row["instances"], row["connections"]) == ("scale", "demitasse", 2, 32), str(row))
    check(row["requests_per_s"] > 0 and row["ratio"] > 0 and row["loop_ratio"] > 0, str(row))


@test
def bench_net_weighs_idle_connections():
    for row in net_rows("idle"):
        check((row["what"], row["connections"], row["idle_connections"]) == ("idle", 101, 100), str(row))
        check(row["ratio"] > 0 and row["pairs"] == 3, str(row))
        # Tables of the first connections weigh more than those of ten thousand; sanitizers have no mallinfo2.
        check(sanitized() or 100 < row["idle_connection_bytes"] < 10000, f"{row['idle_connection_bytes']} bytes for an idle connection")


@test
def bench_net_counts_instructions():
    program = Path(DEMI).parent / "demi-bench-net"
    if not shutil.which("valgrind"):
        raise Skip("valgrind is not installed")
    done = subprocess.run(["valgrind", "-q", "--tool=none", program, "--only", "rx_ack", "--count", "10"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise Skip("this build does not run under valgrind")
    row, = rows("bench", "net", "--part", "input", "--quick")
    check(row["rx_to_waiter_ns"] > 0, str(row))
    check(100 < row["rx_ack_instructions"] < row["rx_request_instructions"] < 20000, str(row))
    check(100 < row["rx_data_instructions"] < row["rx_request_instructions"], str(row))


@test
def bench_net_runs_one_thing():
    for key in ("request_1", "request_32", "bulk_1460", "bulk_9000", "rx_data", "rx_request", "rx_ack"):
        demi("bench", "net", "--only", key, "--count", "100")
    if has_lwip():
        for key in ("request_1", "request_32", "bulk_1460", "bulk_9000"):
            demi("bench", "net", "--only", key, "--count", "100", "--stack", "lwip")


@contextlib.contextmanager
def server(*arguments):
    """A server that stays: the process and its port."""
    process = subprocess.Popen([DEMI, "bench", "echo", "--role", "server", *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        yield process, re.search(r"port (\d+)", process.stdout.readline())[1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@test
def stat_tells_of_a_server():
    with server() as (process, port):
        row = rows("bench", "echo", "--role", "client", "--port", port, "--rounds", "100")[0]
        check(row["requests"] == 100 and row["server_cpu_ns_per_request"] is None, str(row))
        document, = json.loads(demi("stat", str(process.pid), "--json")[0])
        check(document["pid"] == process.pid and document["libos"] == "catnap" and document["instance"] == 0, "document")
        check("device" not in document and document["lingering"] == 0, "catnap has no device")
        check(any(queue["local"].endswith(f":{port}") for queue in document["queues"]), "queues")
        check(document["logs"] == document["drives"] == [], "no log is open")
        check("queues" in demi("stat", str(process.pid))[0], "text of one")
        check(any(line.startswith(f"{process.pid} ") for line in demi("stat")[0].splitlines()), "list of all")
        check("handles no frames" in demi("capture", str(process.pid), "/dev/null", status=1)[1], "capture")
        with socket.socket(socket.AF_UNIX) as silent:  # as commands of old did it
            silent.settimeout(LIMIT_S)
            silent.connect(str(Path(RUNTIME) / "demitasse" / f"{process.pid}-0.sock"))
            check(silent.recv(1) == b"{", "who says nothing is sent the document")
        process.send_signal(signal.SIGTERM)
        check(process.wait(LIMIT_S) == 0, f"SIGTERM: status {process.returncode}")
    demi("stat", str(process.pid), status=1)


def stat_of(process):
    document, = json.loads(demi("stat", str(process.pid), "--json")[0])
    return document


def check_stat_of_log(process, path, libos):
    document = stat_of(process)
    (log,), (drive,), counters = document["logs"], document["drives"], document["counters"]
    check(document["libos"] == libos and (log["name"], log["drive"], drive["path"]) == (path, path, path), str(document))
    appended = log["appended"]  # some are no round's
    check(appended >= 100 and counters["pushes"] == 2 * appended, str(document))
    check(log["records"] == appended and log["appended_bytes"] == 64 * appended, str(log))
    check(0 < log["batches"] <= appended and abs(log["records_per_batch"] - appended / log["batches"]) < 0.01, str(log))
    check(all(log[key] == 0 for key in ("popped", "pushes_failed", "pushes_waiting", "batches_in_flight", "lost_at_opening")), str(log))
    check(drive["driver"] in ("uring", "thread") and drive["durable_writes"] >= log["batches"] and drive["grows"], str(drive))
    check(drive["errors"] == drive["requests_in_flight"] == 0 and drive["capacity_bytes"] >= drive["used_bytes"] > 0, str(drive))
    check([queue["name"] for queue in document["queues"] if queue["kind"] == "log"] == [path], str(document["queues"]))
    text = demi("stat", str(process.pid))[0]
    check(re.search(r"\nlogs\n  name +\S*/log\n(  \S+ .*\n)*  records_per_batch +\d", text), f"each key has its line: {text}")
    check("\ndrives\n" in text, text)
    line, = (line for line in demi("stat")[0].splitlines() if line.startswith(f"{process.pid} "))
    check(line.split()[-2:] == [str(len(document["queues"])), "1"], line)


@test
def stat_tells_of_logs():
    for libos in ("catnap", "catloop"):
        with tempfile.TemporaryDirectory() as directory:
            path = str(Path(directory) / "log")
            with server("--libos", libos, "--log-file", path) as (process, port):
                row, = rows("bench", "echo", "--libos", libos, "--role", "client", "--port", port, "--rounds", "100")
                check((row["requests"], row["errors"]) == (100, 0), str(row))
                check_stat_of_log(process, path, libos)


class Namespace:
    """A network namespace that lives as long as its one process; what is in it goes with it."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "300"])
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net"]
        own = os.stat("/proc/self/ns/net").st_ino
        deadline = time.monotonic() + LIMIT_S
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == own:
            check(time.monotonic() < deadline, "no namespace")
            time.sleep(0.01)

    def run(self, *command):
        done = subprocess.run([*self.enter, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S, text=True,
                              check=False)
        check(done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def server(self, *arguments):
        process = subprocess.Popen([*self.enter, DEMI, "bench", "echo", "--role", "server", "--port", "7000", *arguments],
                                   env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            check("7000" in process.stdout.readline(), f"no server: {arguments}")
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def client(self, *arguments):
        command = [*self.enter, DEMI, "bench", "echo", "--role", "client", "--port", "7000", "--rounds", "200", "--json", "-"]
        done = subprocess.run([*command, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=LIMIT_S, text=True, check=False)
        check(done.returncode == 0, f"{arguments}: {done.stderr}")
        row, = json.loads(done.stdout)
        check((row["requests"], row["errors"]) == (200, 0), str(row))
        return row


@contextlib.contextmanager
def namespaces(count):
    if os.geteuid() != 0:
        raise Skip("privilege: network namespaces need root")
    made = []
    try:
        for _ in range(count):
            made.append(Namespace())
        yield made
    finally:
        for namespace in made:
            namespace.holder.kill()
            namespace.holder.wait()


def check_stat_of_device(pid):
    """What `demi stat` tells of the server, which is at rest."""
    document, = json.loads(demi("stat", str(pid), "--json")[0])
    device, neighbours, connections = (document[name] for name in ("device", "neighbours", "connections"))
    check((device["name"], device["mtu"]) == ("afpacket", 1500), str(device))
    check(re.fullmatch("(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", device["mac"]), str(device))
    check(all(isinstance(device[f"{way}_checksum_offload"], bool) for way in ("rx", "tx")), str(device))
    for way in ("rx", "tx"):
        check(device[f"{way}_frames"] > 100 and device[f"{way}_bytes"] > 54 * device[f"{way}_frames"], str(device))
    check(0 < neighbours["entries"] <= neighbours["max"], str(neighbours))
    check(connections["listening"] == 1 and sum(connections.values()) >= 1, str(connections))
    text = demi("stat", str(pid))[0]
    for heading in ("device", "neighbours", "connections"):
        check(f"\n{heading}\n" in text, f"no {heading} in {text}")


@test
def catpowder_over_a_veth_pair():
    with namespaces(2) as (here, there):
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(there.holder.pid))
        here.run("ip", "link", "set", "v0", "up")
        there.run("ip", "link", "set", "v1", "up")
        there.run("ip", "addr", "add", "10.7.0.3/24", "dev", "v1")
        there.run("ethtool", "-K", "v1", "tx", "off", "gso", "off", "tso", "off")
        device = ["--libos", "catpowder", "--device", "afpacket,interface=v0,addresses=10.7.0.1/24,fd07::1/64,mtu=1500"]
        other = ["--libos", "catpowder", "--device", "afpacket,interface=v1,addresses=10.7.0.2/24,fd07::2/64"]
        with here.server(*device) as process:
            row = there.client(*other, "--address", "10.7.0.1")
            check((row["libos"], row["client"], row["device"]) == ("catpowder", "catpowder", "afpacket"), str(row))
            check(there.client(*other, "--address", "10.7.0.1", "--connections", "10")["client"] == "catpowder", "its own client")
            there.client("--libos", "posix-epoll", "--address", "10.7.0.1", "--size", "100000")
            check_stat_of_device(process.pid)
            process.send_signal(signal.SIGTERM)
            check(process.wait(LIMIT_S) == 0, f"SIGTERM: status {process.returncode}")
        with here.server(*device, "--address", "fd07::1"):
            there.client(*other, "--address", "fd07::1")
        with here.server(*device, "--proto", "udp"):
            there.client(*other, "--address", "10.7.0.1", "--proto", "udp")
            there.client("--libos", "posix-epoll", "--address", "10.7.0.1", "--proto", "udp")
        with there.server("--libos", "posix-epoll", "--address", "10.7.0.3"):
            here.client(*device, "--address", "10.7.0.3")


def leftovers():
    """Interfaces here, and processes that are called demi."""
    names = sorted(os.listdir("/sys/class/net"))
    return names, subprocess.run(["pgrep", "-x", "-P", str(os.getpid()), "demi"], stdout=subprocess.PIPE, check=False).stdout


@test
def the_benchmark_makes_its_link():
    if os.geteuid() != 0:
        out, err = demi("bench", "echo", "--libos", "posix-spin", "--device", "veth", status=1)
        check("root" in err, err)
        raise Skip("privilege: network namespaces need root")
    before = leftovers()
    short = ["--seconds", "0.1", "--pairs", "2"]
    for device in ("afpacket", "tap", *(["veth", "veth,xdp_mode=native"] if HAVE_XDP else [])):
        one, other = rows("bench", "echo", "--libos", "catpowder", "--device", device, "--reference", "posix-spin", *short)
        check(one["device"] == device.split(",")[0] and one["requests"] > 0 and one["errors"] == 0, str(one))
        check(other["device"] == ("lo" if device == "tap" else "veth") and one["ratio"] > 0, str(other))
        one, other = rows("bench", "echo", "--libos", "catpowder", "--device", device, "--reference", "posix-epoll", "--connections", "10",
                          *short)
        check(one["client"] == "catpowder" and other["client"] == "generator" and one["requests_ratio"] > 0, str(one))
    row, = rows("bench", "echo", "--libos", "posix-spin", "--device", "veth", "--proto", "udp", *short)
    check((row["device"], row["errors"]) == ("veth", 0), str(row))
    for named, *arguments in [("--role", "--device", "veth", "--role", "server"), ("--address", "--device", "veth", "--address", "10.0.0.1"),
                              ("nonsense", "--libos", "catpowder", "--device", "afpacket,nonsense=1")]:
        out, err = demi("bench", "echo", *arguments, status=1 if named == "nonsense" else 2)
        check(named in err, err)
    check(leftovers() == before, f"{before} {leftovers()}")


@test
def the_benchmark_over_shared_memory():
    if not HAVE_DPDK:
        raise Skip("DPDK was not built")
    short = ["--seconds", "0.1", "--pairs", "2"]
    for device in ("memif", "memif,zero-copy=yes", "vhost"):
        for proto in ("tcp", "udp"):
            one, other = rows("bench", "echo", "--libos", "catnip", "--device", device, "--proto", proto, "--reference", "posix-spin", *short)
            check(one["device"] == device.split(",")[0] and one["requests"] > 0 and one["errors"] == 0, str(one))
            check(other["device"] == "lo" and one["ratio"] > 0, str(other))
    for proto in ("tcp", "udp"): # a generator without a stack, for every server
        ours, raw = rows("bench", "echo", "--libos", "catnip", "--device", "memif", "--proto", proto, "--client", "stackless",
                         "--connections", "40", "--depth", "3", "--size", "100", "--reference", "raw", *short)
        check(all(row["requests"] > 0 and row["errors"] == 0 for row in (ours, raw)), f"{ours} {raw}")
    row, = rows("bench", "echo", "--libos", "catnip", "--device", "memif", "--client", "stackless", "--size", "100000", "--reference",
                "none", "--seconds", "0.1")
    check(row["requests"] > 0 and row["errors"] == 0, str(row))
    if has_lwip():
        row, = rows("bench", "echo", "--libos", "lwip", "--device", "memif", "--connections", "40", "--seconds", "0.1")
        check(row["requests"] > 0 and row["errors"] == 0, str(row))
    with tempfile.TemporaryDirectory() as directory:
        link = ["--libos", "catnip", "--device", f"memif,socket={directory}/memif,id=3", "--address", "198.19.7.1/24"]
        with server(*link) as (_, port):
            row, = rows("bench", "echo", *link, "--role", "client", "--local", "198.19.7.2/24", "--port", port, "--rounds", "100")
            check((row["requests"], row["errors"]) == (100, 0), str(row))
    for named, *arguments in [("--local", "--role", "client", "--address", "10.0.0.1", "--port", "7"), ("--address", "--role", "server"),
                              ("catpowder does not drive", "--libos", "catpowder")]:
        out, err = demi("bench", "echo", "--libos", "catnip", "--device", "memif", *arguments, status=2)
        check(named in err, err)


@test
def the_benchmark_over_a_packet_socket_of_dpdk():
    if not HAVE_DPDK:
        raise Skip("DPDK was not built")
    if os.geteuid() != 0:
        raise Skip("privilege: network namespaces need root")
    one, other = rows("bench", "echo", "--libos", "catnip", "--device", "veth", "--seconds", "0.05", "--pairs", "2", "--reference", "posix-spin")
    check((one["libos"], one["device"], other["device"]) == ("catnip", "veth", "veth") and one["errors"] == 0, f"{one} {other}")
    out, err = demi("bench", "echo", "--libos", "catnip", "--device", "tap", status=2)
    check("memif, vhost or veth" in err, err)


@test
def a_killed_benchmark_leaves_no_link():
    if os.geteuid() != 0:
        raise Skip("privilege: network namespaces need root")
    before = leftovers()
    with subprocess.Popen([DEMI, "bench", "echo", "--libos", "posix-spin", "--device", "veth", "--seconds", "30"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + LIMIT_S
        while len(children_of(process.pid)) < 2:
            check(process.poll() is None and time.monotonic() < deadline, "no ends")
            time.sleep(0.01)
        ends = children_of(process.pid)
        process.kill()
    deadline = time.monotonic() + LIMIT_S
    while any(os.path.exists(f"/proc/{pid}") for pid in ends):
        check(time.monotonic() < deadline, "its ends live on")
        time.sleep(0.01)
    check(leftovers() == before, f"{before} {leftovers()}")


def children_of(pid):
    return subprocess.run(["pgrep", "-x", "-P", str(pid), "demi"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()


def processor_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@test
def an_idle_instance_takes_no_processor_time():
    with namespaces(2) as (here, there):
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(there.holder.pid))
        here.run("ip", "link", "set", "v0", "up")
        there.run("ip", "link", "set", "v1", "up")
        there.run("ip", "addr", "add", "10.7.0.3/24", "dev", "v1")
        there.run("ethtool", "-K", "v1", "tx", "off", "gso", "off", "tso", "off")
        for device in ("afpacket", *(["afxdp,xdp_dispatcher=never"] if HAVE_XDP else [])):
            device = ["--libos", "catpowder", "--device", f"{device},interface=v0,addresses=10.7.0.1/24"]
            with here.server(*device) as process:
                there.client("--libos", "posix-epoll", "--address", "10.7.0.1")
                time.sleep(0.2)
                before = processor_ticks(process.pid)
                time.sleep(2)
                spent = (processor_ticks(process.pid) - before) / os.sysconf("SC_CLK_TCK")
                check(spent <= 0.1, f"{device}: {spent} s of 2 s")


@test
def catpowder_over_tap():
    with namespaces(1) as (here,):
        device = ["--libos", "catpowder", "--device", "tap,interface=demi0,addresses=10.7.1.1/24"]
        with here.server(*device):
            here.run("ip", "addr", "add", "10.7.1.2/24", "dev", "demi0")
            here.client("--libos", "posix-epoll", "--address", "10.7.1.1")


@test
def the_doctor_tries_catpowder():
    finding = next(row for row in rows("doctor") if row["name"] == "catpowder")
    check(finding["what"] == "libos", str(finding))
    if os.geteuid() != 0:
        raise Skip("privilege: a TAP interface needs root")
    check(finding["level"] == "OK" and "interface" in finding["detail"], str(finding))


def finding_of(here, name, *prefix, **environment):
    """What the doctor says of the interface in a namespace, by name."""
    words = ["env", *[f"{key}={value}" for key, value in environment.items()], *prefix, DEMI, "doctor", "--json", "-"]
    out = here.run(*words, *([] if "DEMI_INTERFACE" in environment else ["--interface", name]))
    return {(row["what"], row["name"]): row for row in json.loads(out)}


def level(findings, name, wanted, *words, mend="", what="interface"):
    row = findings[what, name]
    check(row["level"] == wanted and all(word in row["detail"] for word in words) and mend in row["mend"], f"not {wanted}: {row}")


@test
def the_doctor_examines_an_interface():
    if not shutil.which("ethtool"):
        raise Skip("ethtool is not installed")
    with namespaces(1) as (here,):
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        here.run("ip", "link", "set", "v1", "up")
        level(finding_of(here, "nothing"), "link", "MISSING", "no such interface", mend="ip link")
        level(finding_of(here, "lo"), "link", "MISSING", "not an Ethernet")
        level(finding_of(here, "v0"), "link", "MISSING", "is down", mend="ip link set v0 up")
        here.run("ip", "link", "set", "v0", "up")
        here.run("ip", "addr", "add", "10.7.2.1/24", "dev", "v1")
        findings = finding_of(here, "v0", DEMI_ADDRESSES="10.7.2.2/24,10.7.2.1/24")
        level(findings, "link", "OK", "veth")
        level(findings, "queues", "OK", "1")
        level(findings, "MTU", "OK", "1500")
        level(findings, "XDP program", "OK")
        level(findings, "socket", "OK", "tried")
        level(findings, "native mode", "OK", "tried")
        level(findings, "zero copy", "WARN", "the kernel copies")
        level(findings, "offloads", "WARN", "v1", mend="ethtool -K v1 tx off")
        level(findings, "addresses", "MISSING", "10.7.2.1", mend="ip addr del 10.7.2.1/24 dev v1")
        check('"xdp"' not in here.run("ip", "-j", "link", "show", "dev", "v0"), "the program is gone")
        here.run("ethtool", "-K", "v1", "tx", "off", "tso", "off", "gso", "off")
        here.run("ip", "link", "set", "v0", "mtu", "9000")
        here.run("sysctl", "-qw", "net.ipv4.conf.v0.forwarding=1")
        findings = finding_of(here, "v0", DEMI_INTERFACE="v0", DEMI_ADDRESSES="10.7.2.2/24")
        level(findings, "offloads", "OK", "v1")
        level(findings, "MTU", "WARN", "9000", mend="ip link set v0 mtu")
        level(findings, "forwarding", "WARN", "IPv4", mend="net.ipv4.conf.v0.forwarding=0")
        level(findings, "socket", "OK", "not tried")
        level(findings, "addresses", "OK")


@test
def the_doctor_names_what_privilege_is_missing():
    with namespaces(1) as (here,):
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        here.run("ip", "link", "set", "v0", "up")
        for held, missing in (("net_raw,net_admin", ["CAP_BPF"]), ("net_raw", ["CAP_NET_ADMIN", "CAP_BPF"]),
                              ("", ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"])):
            sets = ",".join(["-all", *[f"+{name}" for name in held.split(",") if name]])
            findings = finding_of(here, "v0", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                                  "--inh-caps", sets, "--ambient-caps", sets, "--bounding-set", sets, DEMI_XDP_HELPER="/none")
            level(findings, "capabilities", "WARN", *[f"{name} " for name in missing], mend="setcap", what="afxdp")
            level(findings, "XDP programs", "MISSING", mend="cap_bpf", what="afxdp")
            level(findings, "XDP sockets", "OK" if held else "MISSING", what="afxdp")
            level(findings, "native mode", "WARN", "not tried", mend="setcap")
            level(findings, "helper", "MISSING", "/none", mend="demi xdp-helper", what="afxdp")
            level(findings, "all together", "WARN", "not tried", what="afxdp")


@test
def the_doctor_tries_the_plug_in():
    findings = {row["name"]: row for row in rows("doctor") if row["what"] == "afxdp"}
    if not (Path(DEMI).parent / "libdemitasse-xdp.so").exists():
        check(findings["plug-in"]["level"] == "MISSING", str(findings["plug-in"]))
        raise Skip("this build has no AF_XDP (libxdp-dev, libbpf-dev, clang)")
    check(findings["plug-in"]["level"] == "OK" and "libdemitasse-xdp.so" in findings["plug-in"]["detail"], str(findings["plug-in"]))
    if os.geteuid() != 0:
        raise Skip("privilege: a TAP interface needs root")
    check(findings["all together"]["level"] == "OK" and "AF_XDP" in findings["all together"]["detail"], str(findings["all together"]))
    with tempfile.TemporaryDirectory() as empty:
        out = subprocess.run([DEMI, "doctor", "--json", "-"], env={**ENVIRONMENT, "DEMI_PLUGIN_DIR": empty}, stdout=subprocess.PIPE,
                             text=True, timeout=LIMIT_S, check=False).stdout
    row = next(row for row in json.loads(out) if row["name"] == "plug-in")
    check(row["level"] == "MISSING" and empty in row["detail"] and "DEMI_PLUGIN_DIR" in row["mend"], str(row))


@test
def stat_removes_what_is_stale():
    with server() as (process, _):
        left = Path(RUNTIME) / "demitasse" / f"{process.pid}-0.sock"
        check(left.exists(), f"no {left}")
    check(left.exists(), "a killed process cannot clean up")
    check("no instance" in demi("stat")[0], "it is not listed")
    check(not left.exists(), "it is removed")
    check(demi("stat", "--json")[0] == "[]\n", "none, as JSON")


def main():
    global count, failed
    print(f"1..{len(tests)}", flush=True)
    for function in tests:
        count += 1
        begin = time.monotonic()
        name = function.__name__.replace("_", " ")
        try:
            function()
        except Skip as why:
            print(f"ok {count} - {name} # SKIP {why}", flush=True)
        except (Failure, subprocess.TimeoutExpired, ValueError, TypeError, KeyError, StopIteration, OSError) as why:
            failed += 1
            print(f"not ok {count} - {name}\n# {type(why).__name__}: {why}", flush=True)
        else:
            print(f"ok {count} - {name}\n# {time.monotonic() - begin:.1f} s", flush=True)
    shutil.rmtree(RUNTIME, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
