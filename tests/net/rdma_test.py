#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""catmint where a machine has no RDMA: programs say what is missing and end, nothing is printed but that, other transports go
on. (With devices: tests/lab/guest/catmint*.sh.) Prints TAP.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("DEMI") or ROOT / "build/demi").parent
PLUG_IN = Path(os.environ.get("DEMI_PLUGIN_DIR") or BUILD) / "libdemitasse-rdma.so"
LIMIT_S = 20

tests = []


class Skip(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def check(truth, why):
    if not truth:
        raise AssertionError(why)


def server(**environment):
    """Status and standard error of the example server, which has to end by itself."""
    done = subprocess.run([BUILD / "examples/echo_server", "127.0.0.1", "7000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False,
                          env={**os.environ, "LD_LIBRARY_PATH": str(BUILD), "LIBOS": "catmint", **environment})
    check(done.stdout == "", done.stdout)
    return done.returncode, done.stderr


def need_plug_in():
    if not PLUG_IN.exists():
        raise Skip("RDMA was not built (libibverbs-dev, librdmacm-dev)")


@test
def no_device_is_told_with_the_command():
    need_plug_in()
    if any(Path("/sys/class/infiniband").glob("*")):
        raise Skip("machine: it has an RDMA device")
    status, said = server()
    check(status == 1, status)
    lines = said.splitlines()
    check(len(lines) == 2, said) # one of ours, one of the program's
    check("catmint: no RDMA" in lines[0] and "modprobe -a rdma_rxe rdma_ucm && rdma link add rxe0 type rxe" in lines[0], said)
    check("No such device" in lines[1], said)


@test
def any_case_will_do():
    need_plug_in()
    status, said = server(LIBOS="CatMint")
    check(status == 1 and "catmint" in said, said)


@test
def no_plug_in_is_told():
    with tempfile.TemporaryDirectory() as empty:
        status, said = server(DEMI_PLUGIN_DIR=empty)
    check(status == 1 and "libdemitasse-rdma.so" in said and "demitasse.plugin_dir" in said, said)


@test
def it_leaves_no_descriptor_behind():
    need_plug_in()
    if any(Path("/sys/class/infiniband").glob("*")):
        raise Skip("machine: it has an RDMA device")
    program = """
import ctypes, os
demi = ctypes.CDLL("libdemitasse.so.0")
class Args(ctypes.Structure):
    _fields_ = [("argc", ctypes.c_int), ("rest", ctypes.c_void_p * 15)]
def opened():
    return sorted(os.listdir("/proc/self/fd"))
assert demi.demi_init(ctypes.byref(Args())) == 19
before = opened()
for _ in range(20):
    assert demi.demi_init(ctypes.byref(Args())) == 19
assert opened() == before, (before, opened())
ctypes.CDLL(None).setenv(b"LIBOS", b"catnap", 1)
assert demi.demi_init(ctypes.byref(Args())) == 0
"""
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=LIMIT_S, check=False,
                          env={**os.environ, "LD_LIBRARY_PATH": str(BUILD), "LIBOS": "catmint"})
    sanitized = b"__asan_init" in (BUILD / "libdemitasse.so.0").read_bytes() or b"__tsan_init" in (BUILD / "libdemitasse.so.0").read_bytes()
    if sanitized and done.returncode:
        raise Skip("a sanitized library does not load into Python")
    check(done.returncode == 0, done.stderr)


def main():
    print(f"1..{len(tests)}")
    failed = 0
    for number, function in enumerate(tests, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception as error:  # pylint: disable=broad-except # any failure is the test's
            failed += 1
            print(f"not ok {number} - {name}\n# {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
