#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An address that the kernel has too (demitasse.xdp.ports): our ports of it are ours, everything else stays the kernel's, at the
same time. A veth pair with a network namespace at each end; ours are the examples, on the same end the kernel's sockets are.

Prints TAP. Needs root. Each step is bounded.
"""
import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["DEMI"]).parent if "DEMI" in os.environ else ROOT / "build"
WAIT_S = 20
HERE = {4: "192.0.2.10", 6: "2001:db8::10"}
PEER = {4: "192.0.2.1", 6: "2001:db8::1"}
libc = ctypes.CDLL(None, use_errno=True)


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=WAIT_S, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}: {done.stdout}")
    return done.stdout


class End:
    """A network namespace, held by a process."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 300"], stdout=subprocess.PIPE, text=True)
        self.holder.stdout.readline()
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net"]

    def run(self, *command):
        return run(*self.enter, *command)

    def sockets(self):
        """The calling thread's sockets are of this end from now on."""
        with open(f"/proc/{self.holder.pid}/ns/net", "rb") as namespace:
            if libc.setns(namespace.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def in_end(end, function, *arguments):
    """Calls a function in a thread whose sockets are of an end."""
    result = []

    def work():
        end.sockets()
        try:
            result.append((function(*arguments), None))
        except Exception as trouble:  # it is the caller's
            result.append((None, trouble))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(2 * WAIT_S)
    value, trouble = result[0]
    if trouble:
        raise trouble
    return value


@contextlib.contextmanager
def ours(end, *command, ports="tcp:7000,tcp:40000-40099,udp:7001", addresses=None, helper=""):
    environment = {**os.environ, "LIBOS": "catpowder", "DEMI_DEVICE": "afxdp", "DEMI_INTERFACE": "v0", "DEMI_STAT_SOCKET": "off",
                   "DEMI_ADDRESSES": addresses or f"{HERE[4]}/24,{HERE[6]}/64", "DEMI_XDP_PORTS": ports, "DEMI_XDP_HELPER": helper,
                   "LD_LIBRARY_PATH": str(BUILD), "DEMI_PLUGIN_DIR": str(BUILD)}
    process = subprocess.Popen([*end.enter, *command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def connect(family, address, port):
    """Tries until somebody listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM)
        sock.settimeout(WAIT_S)
        try:
            sock.connect((address, port))
            return sock
        except ConnectionRefusedError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def echo(family, address, port, size):
    with connect(family, address, port) as sock:
        data = bytes(range(256)) * (size // 256)
        thread = threading.Thread(target=sock.sendall, args=(data,))
        thread.start()
        got = b""
        while len(got) < len(data):
            piece = sock.recv(65536)
            assert piece, f"the stream ended after {len(got)} bytes"
            got += piece
        thread.join()
        assert got == data, "other bytes came back"


def kernel_server(family, address, port, ready, peers):
    """Echo for as many connections as there are places in peers, by the kernel's sockets."""
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(WAIT_S)
        listener.bind((address, port))
        listener.listen()
        ready.set()
        for i in range(len(peers)):
            sock, peers[i] = listener.accept()
            with sock:
                sock.settimeout(WAIT_S)
                while data := sock.recv(65536):
                    sock.sendall(data)


@contextlib.contextmanager
def kernel_echo(end, family, address, port, count=1):
    ready, peers = threading.Event(), [None] * count
    thread = threading.Thread(target=in_end, args=(end, kernel_server, family, address, port, ready, peers), daemon=True)
    thread.start()
    assert ready.wait(WAIT_S), "the kernel's server does not listen"
    yield peers
    thread.join(WAIT_S)


@contextlib.contextmanager
def link():
    here, there = End(), End()
    try:
        here.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(there.holder.pid))
        for end, name, own in ((here, "v0", HERE), (there, "v1", PEER)):
            end.run("ip", "link", "set", name, "up")
            end.run("ip", "addr", "add", f"{own[4]}/24", "dev", name)
            end.run("ip", "addr", "add", f"{own[6]}/64", "dev", name, "nodad")
            end.run("ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        yield here, there
    finally:
        here.close()
        there.close()


def both_serve_one_address(family):
    """Our server and one of the kernel's at the same address, at the same time; ping is the kernel's."""
    with link() as (here, there), ours(here, str(BUILD / "examples/echo_server"), HERE[family], "7000"):
        with kernel_echo(here, family, HERE[family], 8080):
            mine = threading.Thread(target=in_end, args=(there, echo, family, HERE[family], 8080, 1 << 20))
            mine.start()
            in_end(there, echo, family, HERE[family], 7000, 1 << 20)
            mine.join(WAIT_S)
        there.run("ping", f"-{family}", "-c", "1", "-W", "5", HERE[family])
        assert "7000" not in here.run("ss", "-Htln"), "the kernel listens at our port"


def test_both_serve_one_ipv4_address():
    both_serve_one_address(4)


def test_both_serve_one_ipv6_address():
    both_serve_one_address(6)


def test_connections_leave_from_our_ranges():
    """To a peer that was never asked for, and that we find by questions of our own."""
    with link() as (here, there), kernel_echo(there, 4, PEER[4], 9000) as peers:
        with ours(here, str(BUILD / "examples/echo_client"), PEER[4], "9000", "10") as client:
            assert client.wait(WAIT_S) == 0, client.stdout.read()
        address, port = peers[0]
    assert address == HERE[4] and 40000 <= port <= 40099, f"from {address}:{port}"


def test_the_kernel_speaks_from_its_address():
    """Its own connections go on beside ours, and the peer keeps one neighbour."""
    with link() as (here, there), ours(here, str(BUILD / "examples/echo_server"), HERE[4], "7000"):
        in_end(there, echo, 4, HERE[4], 7000, 65536)
        with kernel_echo(there, 4, PEER[4], 9000):
            in_end(here, echo, 4, PEER[4], 9000, 1 << 20)
        in_end(there, echo, 4, HERE[4], 7000, 65536)
        macs = set(re.findall(r"lladdr (\S+)", there.run("ip", "neigh", "show", HERE[4])))
        assert len(macs) == 1, f"link-layer addresses: {macs}"


def test_a_helper_gives_ports():
    """Those that it was told: the address stays the kernel's."""
    with link() as (here, there), tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/xdp.sock"
        helper = subprocess.Popen([*here.enter, str(BUILD / "demi"), "xdp-helper", "--interface", "v0", "--socket", path, "--ports",
                                   "tcp:7000-7003"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + WAIT_S
            while not Path(path).exists():
                assert time.monotonic() < deadline, "the helper does not listen"
                time.sleep(0.05)
            time.sleep(0.1)
            server = [str(BUILD / "examples/echo_server"), HERE[4]]
            with ours(here, *server, "7000", ports="tcp:7000", addresses=f"{HERE[4]}/24", helper=path):
                in_end(there, echo, 4, HERE[4], 7000, 65536)
                there.run("ping", "-c", "1", "-W", "5", HERE[4])
            with ours(here, *server, "80", ports="tcp:80", addresses=f"{HERE[4]}/24", helper=path) as process:
                assert process.wait(WAIT_S) != 0, "a port that the helper may not give"
        finally:
            helper.terminate()
            helper.wait()


def test_other_ports_are_refused():
    with link() as (here, _), ours(here, str(BUILD / "examples/echo_server"), HERE[4], "7002") as server:
        assert server.wait(WAIT_S) != 0, "it is bound to a port that is not ours"
        words = server.stdout.read()
    assert "Permission denied" in words, words


def test_a_link_local_address_is_never_shared():
    with link() as (here, _):
        kernels = re.search(r"inet6 (fe80\S+)/", here.run("ip", "-6", "addr", "show", "dev", "v0"))[1]
        with ours(here, str(BUILD / "examples/echo_server"), HERE[4], "7000", addresses=f"{HERE[4]}/24,{kernels}/64") as server:
            assert server.wait(WAIT_S) != 0, "it takes the kernel's link-local address"
            words = server.stdout.read()
    assert kernels in words and "kernel's address" in words, words


def main():
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    if os.geteuid() != 0:
        print("1..0 # SKIP privilege: network namespaces need root")
        return 0
    if not (BUILD / "libdemitasse-xdp.so").exists():
        print("1..0 # SKIP this build has no AF_XDP (libxdp-dev, libbpf-dev, clang)")
        return 0
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for number, function in enumerate(tests, 1):
        name = function.__name__.removeprefix("test_").replace("_", " ")
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except (AssertionError, OSError, IndexError, TypeError, subprocess.TimeoutExpired) as trouble:
            failed += 1
            text = str(trouble).replace("\n", "\n# ")
            print(f"not ok {number} - {name}\n# {type(trouble).__name__}: {text}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
