#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our sender and the kernel's share a bottleneck: both send to a receiver of the kernel's, through a line with a rate, a
delay and a queue of one bandwidth-delay product (bottleneck.c), each in a network namespace of its own.

What is asserted: both complete, and the bytes are right. Jain's index of what they got while both were sending is
printed, for it depends on how the machine feels.

Prints TAP. Needs root.

usage: fairness_test.py [SECONDS [RUNS]]
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ["DEMI"]).parent if "DEMI" in os.environ else HERE.parents[1] / "build"
CLONE_NEWNET = 0x40000000
WAIT_S = 60
SECONDS = 4
MBIT, DELAY_US = 20, 10000
QUEUE = MBIT * 1000000 // 8 * 2 * DELAY_US // 1000000
PORT = 5000
RECEIVER, KERNEL, OURS = "10.8.0.1", "10.8.0.2", "10.8.0.3"
libc = ctypes.CDLL(None, use_errno=True)


def the_pattern():
    """What interop.c sends, again and again."""
    x, out = 1, bytearray()
    for _ in range(65521):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        out.append(x >> 24)
    return bytes(out)


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=WAIT_S, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout.strip()}")


class Place:
    """A network namespace with one end of a veth pair, whose other end is at the bottleneck."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.holder = None

    def __enter__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        self.holder.stdout.readline()
        run("ip", "link", "add", f"b{self.name}", "type", "veth", "peer", "name", self.name, "netns", self.holder.pid)
        inside = ["nsenter", "-t", self.holder.pid, "-n"]
        run(*inside, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        run("ip", "link", "set", f"b{self.name}", "up")
        run(*inside, "ip", "link", "set", self.name, "up")
        offloads = [word for what in ("tx", "tso", "gso", "gro") for word in (what, "off")]
        subprocess.run([*map(str, inside), "ethtool", "-K", self.name, *offloads], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
        if self.address:
            run(*inside, "ip", "addr", "add", f"{self.address}/24", "dev", self.name)
        return self

    def __exit__(self, *_):
        run("ip", "link", "del", f"b{self.name}")
        self.holder.communicate()

    def enter(self):
        """Called in a child."""
        with open(f"/proc/{self.holder.pid}/ns/net", "rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                os._exit(125)

    def start(self, *command, **environment):
        return subprocess.Popen([str(word) for word in command], env={**os.environ, **environment}, preexec_fn=self.enter,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# -- the kernel's ends, each a process of its own: fairness_test.py --receive BYTES, --send BYTES CONGESTION


def receive_one(sock, size, began, samples):
    """samples: (seconds, bytes so far)."""
    pattern = the_pattern()
    expected, offset = memoryview(pattern * (size // len(pattern) + 2)), 0
    while data := sock.recv(1 << 18):
        if data != expected[offset:offset + len(data)]:
            samples.append((-1, offset))
            return
        offset += len(data)
        samples.append((time.monotonic() - began, offset))
    sock.close()


def receive(size):
    with socket.create_server((RECEIVER, PORT)) as listener:
        print("ready", flush=True)
        listener.settimeout(WAIT_S)
        samples, threads, began = {}, [], None
        while len(samples) < 2:
            sock, (address, _) = listener.accept()
            sock.settimeout(WAIT_S)
            began = began or time.monotonic()
            samples[address] = []
            threads.append(threading.Thread(target=receive_one, args=(sock, size, began, samples[address])))
            threads[-1].start()
        for thread in threads:
            thread.join()
    print(json.dumps(samples), flush=True)


def send(size, congestion):
    pattern = the_pattern()
    with socket.socket() as sock:
        sock.settimeout(WAIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        sock.connect((RECEIVER, PORT))
        sock.sendall((pattern * (size // len(pattern) + 1))[:size])
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1000):
            pass


# -- the contest


def rates(samples):
    """Mbit/s of each while both were sending, the first fifth of that time left out."""
    end = min(each[-1][0] for each in samples.values())
    begin = max(each[0][0] for each in samples.values())
    begin += (end - begin) / 5
    got = {}
    for address, each in samples.items():
        bytes_at = [max((n for at, n in each if at <= moment), default=0) for moment in (begin, end)]
        got[address] = (bytes_at[1] - bytes_at[0]) * 8 / 1e6 / max(end - begin, 1e-9)
    return got


def jain(values):
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values) or 1)


def finish(process, name):
    text = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 0, f"{name}: status {process.returncode}: {text.strip()[-2000:]}"
    return text


def contest(places, seconds, loss_ppm=0, first=None, congestion="cubic"):
    """Both send; first: who begins, a second before the other."""
    there, kernel, ours = places
    size = int(seconds * MBIT * 1e6 / 8 / 2)
    environment = {"LD_LIBRARY_PATH": str(BUILD), "LIBOS": "catpowder", "DEMI_DEVICE": "afpacket",
                   "DEMI_INTERFACE": ours.name, "DEMI_ADDRESSES": f"{OURS}/24", "DEMI_STAT_SOCKET": "off"}
    with contextlib.ExitStack() as stack:

        def start(place, *command, **environment):
            process = place.start(*command, **environment)
            stack.callback(process.kill)
            return process

        line = subprocess.Popen([str(BUILD / "tests" / "bottleneck"), str(MBIT), str(DELAY_US), str(QUEUE), str(loss_ppm), "1",
                                 *(f"b{place.name}" for place in places)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True)
        stack.callback(line.kill)
        assert line.stdout.readline() == "ready\n"
        receiver = start(there, sys.executable, __file__, "--receive", size)
        assert receiver.stdout.readline() == "ready\n"
        beginners = [lambda: start(kernel, sys.executable, __file__, "--send", size, congestion),
                     lambda: start(ours, BUILD / "tests" / "interop_peer", "call", RECEIVER, PORT, 1, "send", size, 16384, 0,
                                   **environment)]
        if first == "ours":
            beginners.reverse()
        senders = []
        for begin in beginners:
            senders.append(begin())
            time.sleep(1 if first else 0)
        samples = json.loads(finish(receiver, "receiver"))
        for sender in senders:
            finish(sender, "sender")
        passed = line.communicate("", timeout=WAIT_S)[0]
    for address, each in samples.items():
        assert each and each[-1] == [each[-1][0], size] and each[-1][0] >= 0, f"from {address}: {each[-1:]}, not {size} bytes"
    got = rates(samples)
    print(f"# Linux ({congestion}) {got[KERNEL]:.2f}, ours {got[OURS]:.2f} Mbit/s: Jain's index {jain(list(got.values())):.3f}")
    for text in passed.splitlines():
        print(f"# {text}")


def skip_reason():
    if os.geteuid():
        return "privilege: network namespaces and interfaces need root"
    if libc.unshare(CLONE_NEWNET):
        return f"privilege: no network namespace: {os.strerror(ctypes.get_errno())}"
    if not shutil.which("ethtool"):
        return "ethtool is not installed"
    run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    return None


def give_up(*_):
    print("Bail out! no end", flush=True)
    os._exit(1)


def main():
    if sys.argv[1:2] == ["--receive"]:
        return receive(int(sys.argv[2]))
    if sys.argv[1:2] == ["--send"]:
        return send(int(sys.argv[2]), sys.argv[3])
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if reason := skip_reason():
        print(f"1..1\nok 1 - fairness # SKIP {reason}")
        return 0
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(seconds * 12 * runs) + 120)
    count = failed = 0
    with Place("vR", RECEIVER) as there, Place("vK", KERNEL) as kernel, Place("vO", None) as ours:
        for name, settings in [("beside a Linux flow", {}), ("Linux begins", {"first": "kernel"}),
                               ("we begin", {"first": "ours"}), ("0.1 % of frames lost", {"loss_ppm": 1000})] * runs:
            count += 1
            try:
                contest((there, kernel, ours), seconds, **settings)
                print(f"ok {count} - {name}", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
                failed += 1
                lines = re.sub(r"(?m)^", "# ", str(error)[:4000])
                print(f"not ok {count} - {name}\n{lines}", flush=True)
    print(f"1..{count}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
