#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A mixed load over AF_XDP, in both of its modes, while the link goes down and up: the kernel's sockets on one side of a veth pair,
on the other one instance of ours (interop_load). Downloads, uploads, echoes, short connections, datagrams and pings, over IPv4
and IPv6.

No byte may differ. What fails must have met an outage: a short one prevents connections from being made, and only one longer than
our retransmissions last, or one for each of them, may end those that are there. At the end the instance holds as many objects and operations as before.

Prints TAP. Needs root.

usage: load_test.py [SECONDS]     in each mode; 10 if not said

Environment: DEMI_SEED, what is drawn at random.
"""

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import interop_test as interop  # noqa: E402  the link, and processes on our side of it
from interop_test import BUILD, KERNEL, KIB, MIB, OURS, WAIT_S, need, run, stream  # noqa: E402

LOAD_S = 10
OUTAGE_S = (0.01, 0.1, 0.1, 0.5)  # connections live through them
LONG_OUTAGE_S = 4                 # we give up after 3 s, the kernel after minutes
RULES = {"DEMI_TCP_RETRIES": "3", "DEMI_TCP_RTO_MIN_MS": "200", "DEMI_TCP_SYN_RETRIES": "3", "DEMI_KEEPALIVE": "true",
         "DEMI_KEEPALIVE_TIME_MS": "2000", "DEMI_KEEPALIVE_INTERVAL_MS": "500"}
GIVE_UP_S = 2.9  # three retransmissions later: short outages can meet each of them
PAUSE_S = (0.5, 3)
BETWEEN_LONG_S = 60
DEVICE_OBJECTS = 2048 + 64  # xdp.ring to receive into, and some
SLACK_S = 0.1  # between a command's return and what the interface does
DEMI = os.environ.get("DEMI", str(BUILD / "demi"))


class NotMade(Exception):
    """A connection."""


class Outages(threading.Thread):
    """Takes one end of the link down and up again, at random; a long outage in the middle, and then each minute."""

    def __init__(self, site, seed, seconds):
        super().__init__()
        self.site, self.random = site, random.Random(seed)
        self.next_long = time.monotonic() + min(seconds / 2, BETWEEN_LONG_S)
        self.spans = []  # (begin, end, long), the last one's end may be in the future
        self.over = threading.Event()

    def link(self, ours, state):
        if ours:
            run("nsenter", "-t", self.site.there.pid, "-n", "ip", "link", "set", "vO", state)
        else:
            run("ip", "link", "set", "vK", state)

    def run(self):
        while not self.over.wait(self.random.uniform(*PAUSE_S)):
            long = time.monotonic() > self.next_long
            if long:
                self.next_long += BETWEEN_LONG_S
            ours = self.random.choice((False, True))
            self.spans.append((time.monotonic(), float("inf"), long))
            self.link(ours, "down")
            time.sleep(LONG_OUTAGE_S if long else self.random.choice(OUTAGE_S))
            self.link(ours, "up")
            self.spans[-1] = (self.spans[-1][0], time.monotonic() + SLACK_S, long)

    def met(self, begin, end):
        """Those between: (when, how long it was, whether that is a long one)."""
        return [(round(since - begin, 1), round(until - since, 1), long)
                for since, until, long in list(self.spans) if begin < until and since < end]

    def says(self):
        return f"{len(self.spans)} outages, {sum(long for _, _, long in self.spans)} of them long"


class Load:
    """What goes on at once, each piece of work again and again in a thread of its own."""

    def __init__(self, port, outages, seed):
        self.port, self.outages, self.seed = port, outages, seed
        self.trouble, self.threads, self.counts = [], [], {}
        self.until = 0

    def begin(self, seconds):
        self.until = time.monotonic() + seconds
        works = [(version, work) for version in (4, 6)
                 for work in (self.bulk, self.requests, self.short_connections, self.datagrams, self.pings)]
        for i, (version, work) in enumerate(works):
            self.threads.append(threading.Thread(target=self.repeat, args=(f"{work.__name__} {version}", work, version,
                                                                           random.Random(self.seed + i))))
        for thread in self.threads:
            thread.start()

    def end(self):
        for thread in self.threads:
            thread.join()
        assert not self.trouble, "; ".join(self.trouble)
        idle = [name for name, (done, _) in self.counts.items() if not done]
        assert not idle, f"nothing done: {idle}"

    def repeat(self, name, work, version, dice):
        done = failed = 0
        while time.monotonic() < self.until and not self.trouble:
            begin = time.monotonic()
            try:
                done += work(version, dice)
            except (NotMade, OSError) as why:
                failed += 1
                met = self.outages.met(begin, time.monotonic())
                given_up = len(met) > 1 and time.monotonic() - begin > GIVE_UP_S
                if not (met and isinstance(why, NotMade)) and not any(long for _, _, long in met) and not given_up:
                    self.trouble.append(f"{name}: {why!r} after {time.monotonic() - begin:.1f} s, outages {met}")
                time.sleep(0.05)
            except Exception as why:  # pylint: disable=broad-except  whatever it is, it is this test's failure
                self.trouble.append(f"{name}: {why!r}")
        self.counts[name] = done, failed

    def connect(self, version):
        try:
            sock = socket.create_connection((OURS[version], self.port), timeout=WAIT_S)
        except OSError as why:
            raise NotMade(repr(why)) from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def bulk(self, version, dice):
        size = dice.randrange(1, 4 * MIB)
        with self.connect(version) as sock:
            if dice.randrange(2):
                sock.sendall(struct.pack("!cQ", b"d", size))
                sock.shutdown(socket.SHUT_WR)
                interop.receive_stream(sock, size)
            else:
                sock.sendall(struct.pack("!cQ", b"u", size) + stream(size))
                assert interop.receive(sock, 1) == b"k", "another answer"
        return 1

    def requests(self, version, dice):
        with self.connect(version) as sock:
            for _ in range(100):
                size = dice.choice((1, 64, 1400, 9000, 100 * KIB))
                sock.sendall(struct.pack("!cQ", b"e", size) + stream(size))
                assert interop.receive(sock, size) == stream(size), "other bytes"
        return 100

    def short_connections(self, version, dice):
        with self.connect(version) as sock:
            sock.sendall(struct.pack("!cQ", b"e", 100) + stream(100))
            assert interop.receive(sock, 100) == stream(100), "other bytes"
            if dice.randrange(4) == 0:  # a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return 1

    def datagrams(self, version, dice):
        """How many were answered: any may be lost, the link down or not."""
        done = 0
        with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.1)
            for _ in range(10):
                size = dice.choice((1, 100, 1400, 3000, 20000))
                with contextlib.suppress(OSError):
                    sock.sendto(stream(size), (OURS[version], self.port))
                    data = sock.recv(65536)  # or that of one before, which was late
                    assert data == stream(len(data)), "other bytes"
                    done += 1
        time.sleep(0.01)
        return done

    def pings(self, version, dice):
        """To a port where nobody is, too: what is refused goes out as ICMP."""
        with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.sendto(b"x" * dice.choice((1, 1400, 3000)), (OURS[version], 9))
        done = subprocess.run([need("ping"), "-n", "-c", "5", "-i", "0.01", "-W", "1", OURS[version]], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=WAIT_S, text=True, check=False).stdout
        return done.count("time=")


def stat(peer):
    return json.loads(run(DEMI, "stat", peer.process.pid, "--json"))[0]


def held(status):
    """What has to be the same before and after. The device holds objects, too: as many as received frames lately came at once, so
    that only more than it ever has count."""
    return {"queues": len(status["queues"]), "lingering": status["lingering"], "coroutines": status["scheduler"]["coroutines"],
            "operations": status["scheduler"]["operations"], "objects": max(status["heap"]["live_objects"] - DEVICE_OBJECTS, 0)}


def resident_kib(pid):
    return int(next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")))


def settled(peer, before):
    """Connections of peers that went while the link was down are given up in time."""
    deadline = time.monotonic() + WAIT_S
    while (now := held(stat(peer))) != before:
        assert time.monotonic() < deadline, f"held before {before}, now {now}"
        time.sleep(0.1)


def mixed_load(site, seconds):
    seed = int(os.environ.get("DEMI_SEED", random.randrange(1 << 32)))
    print(f"# DEMI_SEED={seed}", flush=True)
    run("sysctl", "-qw", "net.ipv6.conf.vK.keep_addr_on_down=1", "net.ipv6.conf.vK.accept_dad=0")
    port = next(interop.ports)
    with site.peer(int(seconds + 3 * WAIT_S), port, OURS[4], OURS[6], program="interop_load", DEMI_STAT_SOCKET="on", **RULES) as peer:
        peer.ready()
        site.settle()
        before = held(stat(peer))
        outages = Outages(site, seed, seconds)
        load = Load(port, outages, seed)
        load.begin(seconds)
        outages.start()
        try:
            time.sleep(seconds * 0.4)
            middle, middle_kib = stat(peer), resident_kib(peer.process.pid)
            load.end()
        finally:
            outages.over.set()
            outages.join()
        end_kib = resident_kib(peer.process.pid)
        for name, (done, failed) in load.counts.items():
            print(f"# {name}: {done}, {failed} met an outage")
        print(f"# {outages.says()}; {len(middle['queues'])} queues and {middle['heap']['live_objects']} objects in the middle; "
              f"resident {middle_kib} and {end_kib} KiB", flush=True)
        assert any(long for _, _, long in outages.spans), "no long outage"
        assert end_kib < middle_kib * 1.2 + 20000, f"resident {middle_kib} KiB, then {end_kib} KiB"
        settled(peer, before)
        peer.process.send_signal(signal.SIGTERM)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else LOAD_S

    def load(site):
        mixed_load(site, seconds)

    load.__name__ = "mixed_load"
    return interop.report("mixed load", [("afxdp", {"xdp_mode": mode}, load) for mode in interop.xdp_modes()],
                          missing=interop.NO_XDP, seconds=int(4 * seconds + 6 * WAIT_S))


if __name__ == "__main__":
    sys.exit(main())
