#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Addresses from a router (RFC 4862) and duplicates, against the kernel: it is the router and the peer at one end of a veth
pair, we are at the other, on an interface whose kernel has IPv6 too. Advertisements are sent by a raw socket of this file.

Prints TAP. Needs root. Everything is in network namespaces of its own, and nothing waits for longer than WAIT_S.
"""

import contextlib
import ctypes
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["DEMI"]).parent if "DEMI" in os.environ else ROOT / "build"
TOOL = os.environ.get("DEMI", str(ROOT / "build/demi"))
WAIT_S = 20
CLONE_NEWNET = 0x40000000
KERNEL = "fd01::1"
libc = ctypes.CDLL(None, use_errno=True)


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=WAIT_S, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


@contextlib.contextmanager
def link():
    """The pair: vK here, vO in a namespace whose holder is given."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as there:
        there.stdout.readline()
        run("ip", "link", "add", "vK", "type", "veth", "peer", "name", "vO", "netns", there.pid)
        run("nsenter", "-t", there.pid, "-n", "sysctl", "-qw", "net.ipv6.conf.vO.accept_ra=0")
        run("nsenter", "-t", there.pid, "-n", "ip", "link", "set", "vO", "up")
        run("ethtool", "-K", "vK", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        run("ip", "addr", "add", f"{KERNEL}/64", "dev", "vK", "nodad")
        run("ip", "link", "set", "vK", "up")
        try:
            yield there.pid
        finally:
            run("ip", "link", "del", "vK")
            there.communicate()


@contextlib.contextmanager
def server(holder, address, **settings):
    """An echo server of ours on that side."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(BUILD), "LIBOS": "catpowder", "DEMI_DEVICE": "afpacket",
                   "DEMI_INTERFACE": "vO", "DEMI_STAT_SOCKET": "on",
                   **{f"DEMI_{key.upper()}": value for key, value in settings.items()}}
    command = ["nsenter", "-t", str(holder), "-n", str(BUILD / "examples/echo_server"), address, "7000"]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            yield process, log
        finally:
            process.kill()


def addresses(process):
    """What `demi stat` shows: address -> state, origin."""
    done = subprocess.run([TOOL, "stat", str(process.pid), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, timeout=WAIT_S, check=False)
    if done.returncode:
        return {}
    document, = json.loads(done.stdout)
    return {ipaddress.ip_interface(row["address"]).ip: (row["state"], row["origin"]) for row in document["addresses"]}


def until(what, condition, again=lambda: None):
    """Asks until it is true."""
    for _ in range(WAIT_S * 5):
        found = condition()
        if found:
            return found
        again()
        time.sleep(0.2)
    raise AssertionError(f"{what} does not come")


def advertise(valid=3600, preferred=3600):
    """A router advertisement of the kernel's side: fd01::/64, on the link, for addresses."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    message += struct.pack("!BBBBIII16s", 3, 4, 64, 0xc0, valid, preferred, 0, socket.inet_pton(socket.AF_INET6, "fd01::"))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vK")
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        with contextlib.suppress(OSError):  # while the kernel looks for duplicates of its own address
            s.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex("vK")))


def echo(address, scope=0):
    with socket.create_connection((str(address), 7000, 0, scope) if scope else (str(address), 7000), WAIT_S) as s:
        s.sendall(b"from the router's side")
        got = b""
        while len(got) < 22:
            got += s.recv(100)
        assert got == b"from the router's side", got


def in_state(process, state, origin):
    return [address for address, now in addresses(process).items() if now == (state, origin)]


def test_router():
    """An address comes by an advertisement, works, differs from the kernel's, and grows old."""
    with link() as holder, server(holder, "::", slaac="on") as (process, _):
        ours, = until("an address", lambda: in_state(process, "preferred", "router"), advertise)
        assert ours in ipaddress.ip_network("fd01::/64"), ours
        echo(ours)
        local, = in_state(process, "preferred", "link_local")
        kernels = run("nsenter", "-t", holder, "-n", "ip", "-6", "addr", "show", "dev", "vO")
        assert "fe80::" in kernels and str(local) not in kernels, kernels
        run("ping", "-6", "-c", "1", "-W", "5", f"{local}%vK")
        until("deprecation", lambda: in_state(process, "deprecated", "router"), lambda: advertise(3600, 0))
        echo(ours)  # RFC 4862 5.5.4: what has it goes on


def test_duplicate():
    """The kernel at the other end has our address: it is given up, and that is told."""
    with link() as holder, server(holder, "::", addresses=f"{KERNEL}/64") as (process, log):
        until("the duplicate", lambda: in_state(process, "duplicate", "configured"))
        log.seek(0)
        assert f"{KERNEL} is another station's" in log.read()
        run("ping", "-6", "-c", "1", "-W", "5", KERNEL)


def test_conflict():
    """The same of IPv4, probed for."""
    with link() as holder:
        run("ip", "addr", "add", "10.9.0.1/24", "dev", "vK")
        with server(holder, "0.0.0.0", addresses="10.9.0.1/24", arp_probes="1") as (process, log):
            until("the conflict", lambda: in_state(process, "duplicate", "configured"))
            log.seek(0)
            assert "10.9.0.1 is another station's" in log.read()


def skip_reason():
    if os.geteuid():
        return "privilege: network namespaces and interfaces need root"
    if not shutil.which("ethtool"):
        return "ethtool is not installed"
    if libc.unshare(CLONE_NEWNET):
        return f"privilege: no network namespace: {os.strerror(ctypes.get_errno())}"
    run("ip", "link", "set", "lo", "up")
    return None


def main():
    tests = [test_router, test_duplicate, test_conflict]
    failed = 0
    print(f"1..{len(tests)}")
    reason = skip_reason()
    signal.alarm(150)
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        for number, test in enumerate(tests, 1):
            if reason:
                print(f"ok {number} - {test.__name__} # SKIP {reason}")
                continue
            try:
                test()
                print(f"ok {number} - {test.__name__}", flush=True)
            except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"not ok {number} - {test.__name__}\n# {type(error).__name__}: {error}", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
