#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our stack and the kernel's, in both roles: over a veth pair (netdev afpacket, each end in a network namespace of its own)
and over TAP, IPv4 and IPv6; interop_xdp_test.py has the same over AF_XDP. The kernel's side is here: plain sockets, ping, curl, nc, iperf3. Ours are the programs
interop_*.c, the examples and the programs of tests/compat.

Prints TAP. Needs root. Nothing waits for longer than WAIT_S, and nothing outside of the namespaces is touched.

usage: interop_test.py [WORD]      only the tests with WORD in their names
"""

import contextlib
import ctypes
import os
import re
import resource
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ["DEMI"]).parent if "DEMI" in os.environ else ROOT / "build"
NO_XDP = None if (BUILD / "libdemitasse-xdp.so").exists() else "build: libdemitasse-xdp.so is not there"
NO_DPDK = None if (BUILD / "libdemitasse-dpdk.so").exists() else "build: libdemitasse-dpdk.so is not there"
WAIT_S = 40
TEST_S = 280
KIB, MIB = 1 << 10, 1 << 20
CLONE_NEWNET = 0x40000000
KERNEL = {4: "10.9.0.1", 6: "fd00:9::1"}
OURS = {4: "10.9.0.2", 6: "fd00:9::2"}
PROGRAMS = ["sizes", "syscalls", "tcp-ping-pong", "tcp-push-pop", "udp-ping-pong", "udp-push-pop", "wait-any"]
libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    pass


def the_pattern():
    x, out = 1, bytearray()
    for _ in range(65521):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        out.append(x >> 24)
    return bytes(out)


PATTERN = the_pattern()


def stream(size):
    """What interop.c sends: the pattern, again and again."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


# -- the site: links, and processes on our side of them


def run(*command, **keywords):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=WAIT_S, check=False, **keywords)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def without_offloads(interface):
    if not shutil.which("ethtool"):
        raise Skip("ethtool is not installed")
    subprocess.run(["ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def sanitized():
    """Is the library built with a sanitizer?"""
    return re.search("__[at]san_init", run("nm", "-D", BUILD / "libdemitasse.so")) is not None


def xdp_modes():
    """Which of them is the kernel's affair: a sanitized library, which is slow, looks at one."""
    return ("native",) if sanitized() else ("generic", "native")


class Site:
    """A link between the kernel and us. settings: keys of ours."""

    def __init__(self, device, mtu=1500, **settings):
        self.device, self.mtu = device, mtu
        self.there = None  # who holds the other namespace
        self.tap = device in ("tap", "dpdk tap")
        self.kernels = "tapK" if self.tap else "vK"
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(BUILD), "LIBOS": "catpowder", "DEMI_DEVICE": device,
                            "DEMI_INTERFACE": "tapK" if device == "tap" else "vO", "DEMI_PLUGIN_DIR": str(BUILD),
                            "DEMI_DAD_PROBES": "0",  # the first packets of IPv6 would come a second later
                            **({"DEMI_XDP_DISPATCHER": "never"} if device == "afxdp" else {}),
                            "DEMI_ADDRESSES": f"{OURS[4]}/24,{OURS[6]}/64", "DEMI_STAT_SOCKET": "off",
                            **{f"DEMI_{key.upper()}": value for key, value in settings.items()}}
        if device == "dpdk":  # the key device means nothing to it; its packet socket knows no MTU, and takes frames up to framesz
            self.environment.update(LIBOS="catnip", DEMI_DEVICE="tap", DEMI_MTU=str(mtu),
                                    DEMI_DPDK_DEVICE="net_af_packet0,iface=vO,qdisc_bypass=1" +
                                    (",blocksz=16384,framesz=16384,framecnt=256" if mtu > 1500 else ""))
        elif device == "dpdk tap":
            self.environment.update(LIBOS="catnip", DEMI_DEVICE="tap", DEMI_MTU=str(mtu), DEMI_DPDK_DEVICE="net_tap0,iface=tapK")
        self.environment.pop("CONFIG_PATH", None)

    def __enter__(self):
        if not self.tap:
            self.there = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, text=True)
            self.there.stdout.readline()
            run("ip", "link", "add", "vK", "mtu", self.mtu, "type", "veth",
                "peer", "name", "vO", "mtu", self.mtu, "netns", self.there.pid)
            run("nsenter", "-t", self.there.pid, "-n", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            run("nsenter", "-t", self.there.pid, "-n", "ip", "link", "set", "vO", "up")
            without_offloads("vK")
        else:
            run("ip", "tuntap", "add", "tapK", "mode", "tap", *(["multi_queue"] if self.device == "dpdk tap" else []))
            run("ip", "link", "set", "tapK", "mtu", self.mtu)
            run("sysctl", "-qw", "net.ipv6.conf.tapK.keep_addr_on_down=1")  # DPDK takes it down, and up again
        run("ip", "addr", "add", f"{KERNEL[4]}/24", "dev", self.kernels)
        run("ip", "addr", "add", f"{KERNEL[6]}/64", "dev", self.kernels, "nodad")
        run("ip", "link", "set", self.kernels, "up")
        return self

    def __exit__(self, *_):
        run("ip", "link", "del", self.kernels)
        if self.there:
            self.there.communicate()

    def enter(self):
        """Called in a child: moves it to our side."""
        if self.there:
            with open(f"/proc/{self.there.pid}/ns/net", "rb") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    os._exit(125)

    def settle(self):
        """Waits until one of ours answers: a TAP interface drops what is sent for some time after it has got its other end."""
        run(need("ping"), "-n", "-c", 1, "-w", WAIT_S, "-i", 0.01, OURS[4])

    def start(self, program, *arguments, **environment):
        return subprocess.Popen([str(program), *map(str, arguments)], env={**self.environment, **environment},
                                preexec_fn=self.enter, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def peer(self, *arguments, program="interop_peer", **environment):
        return Peer(self, program, arguments, environment)


class Peer:
    """A program of ours, which has to end with status 0."""

    def __init__(self, site, program, arguments, environment):
        self.name = f"{program} {' '.join(map(str, arguments))}"
        self.process = site.start(BUILD / "tests" / program, *arguments, **environment)
        self.heard = ""

    def ready(self):
        """Waits until it listens."""
        while not self.heard.endswith("ready\n"):
            line = self.process.stdout.readline()
            self.heard += line
            if not line:
                raise AssertionError(f"{self.name}: never ready: {self.heard.strip()}")
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
        try:
            self.heard += self.process.communicate(timeout=WAIT_S)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.heard += self.process.communicate()[0]
            raise AssertionError(f"{self.name}: does not end: {self.heard.strip()}") from None
        finally:
            for line in self.heard.replace("ready\n", "").replace("done\n", "").splitlines()[-20:]:
                print(f"# {self.name.split()[0]}: {line}")
        if not kind and self.process.returncode:
            raise AssertionError(f"{self.name}: status {self.process.returncode}")


# -- the kernel's sockets


ports = iter(range(21000, 30000))  # that tshark knows no protocols of


def kernel_connect(version, port):
    return socket.create_connection((OURS[version], port), timeout=WAIT_S)


def kernel_listen(version):
    """A listener, and its port."""
    listener = socket.create_server((KERNEL[version], 0), family=socket.AF_INET6 if version == 6 else socket.AF_INET,
                                    backlog=1024)
    listener.settimeout(WAIT_S)
    return listener, listener.getsockname()[1]


@contextlib.contextmanager
def connection(site, version, role, *task):
    """A connection with one of ours, which is the server or the client and does its task."""
    if role == "serve":
        port = next(ports)
        with site.peer("serve", OURS[version], port, 1, *task) as peer:
            peer.ready()
            with kernel_connect(version, port) as sock:
                yield sock
    else:
        listener, port = kernel_listen(version)
        with listener, site.peer("call", KERNEL[version], port, 1, *task):
            sock, _ = listener.accept()
            sock.settimeout(WAIT_S)
            with sock:
                yield sock


def receive_stream(sock, size):
    """Everything up to the end: so many bytes of the stream."""
    expected, offset, buffer = memoryview(stream(size + 1)), 0, bytearray(MIB)
    view = memoryview(buffer)
    while count := sock.recv_into(buffer):
        assert view[:count] == expected[offset:offset + count], f"wrong bytes at {offset} or behind"
        offset += count
    assert offset == size, f"{offset} bytes, not {size}"


def receive(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"end of stream after {len(data)} of {size} bytes"
        data += piece
    return data


def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)


# -- what is done on a link


def kernel_receives(site, version, role, size, piece):
    with connection(site, version, role, "send", size, piece, 1234) as sock:
        receive_stream(sock, size)
        sock.sendall(stream(1234))  # our side closed its half only
        sock.shutdown(socket.SHUT_WR)


def kernel_sends(site, version, role, size):
    with connection(site, version, role, "receive", size, 1234) as sock:
        sock.sendall(stream(size))
        sock.shutdown(socket.SHUT_WR)
        receive_stream(sock, 1234)


def bulk_both_ways(site, size=4 * MIB):
    for version in (4, 6):
        kernel_receives(site, version, "serve", size, 16 * KIB)
        kernel_receives(site, version, "call", size, 100001)
        kernel_sends(site, version, "serve", size)
        kernel_sends(site, version, "call", size)


def ping_pong(site, rounds=2000):
    for version in (4, 6):
        for role in ("serve", "call"):
            with connection(site, version, role, "ask", rounds, 64) as sock:
                echo(sock)
                sock.shutdown(socket.SHUT_WR)
        with connection(site, version, "serve", "ask", 20, 100000) as sock:
            echo(sock)
            sock.shutdown(socket.SHUT_WR)


def one_large_push(site):
    for version in (4, 6):
        kernel_receives(site, version, "serve", 64 * MIB, 64 * MIB)
    kernel_receives(site, 4, "call", 64 * MIB, 64 * MIB)


def duplex(site, size=4 * MIB):
    """Both directions at once: an echo that is not waited for."""
    for version in (4, 6):
        with connection(site, version, "serve", "echo") as sock:
            sender = threading.Thread(target=lambda: (sock.sendall(stream(size)), sock.shutdown(socket.SHUT_WR)))
            sender.start()
            receive_stream(sock, size)
            sender.join(WAIT_S)


def half_closes(site):
    for version in (4, 6):
        for role in ("serve", "call"):
            kernel_sends(site, version, role, 0)
            kernel_sends(site, version, role, 1)
            kernel_sends(site, version, role, 100000)
            kernel_receives(site, version, role, 1, 1)
            with connection(site, version, role, "echo") as sock:
                sock.sendall(stream(300000)[:50000])
                sock.shutdown(socket.SHUT_WR)
                receive_stream(sock, 50000)


def resets(site):
    for version in (4, 6):
        for role in ("serve", "call"):
            with connection(site, version, role, "broken", 1000) as sock:
                sock.sendall(stream(1000))
                assert receive(sock, 1) == b"!"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            with connection(site, version, role, "reset") as sock:
                sock.sendall(b"x")
                try:
                    data = sock.recv(1)
                except ConnectionResetError:
                    continue
                raise AssertionError(f"no reset, but {data!r}")


def nobody_listens(site):
    for version in (4, 6):
        with site.peer("serve", OURS[version], 6999, 1, "echo") as peer:
            peer.ready()
            try:
                kernel_connect(version, 6998).close()
            except ConnectionRefusedError:
                pass
            else:
                raise AssertionError("somebody listens")
            kernel_connect(version, 6999).close()
        with site.peer("refused", KERNEL[version], 6997):
            pass


def exchange_many(selector, socks):
    """Echoes on all of them until the peer has ended each."""
    for sock in socks:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    left, deadline = len(socks), time.monotonic() + WAIT_S
    while left:
        assert time.monotonic() < deadline, f"{left} connections are open still"
        for key, _ in selector.select(1):
            data = key.fileobj.recv(65536)
            if data:
                key.fileobj.sendall(data)
            else:
                key.fileobj.shutdown(socket.SHUT_WR)
                selector.unregister(key.fileobj)
                left -= 1


def thousand_connections(site, count=1000):
    """All open at once: each of ours asks, waits until all have, and asks again."""
    for version in (4, 6):
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            port = next(ports)
            peer = stack.enter_context(site.peer("serve", OURS[version], port, count, "meet")).ready()
            socks = [stack.enter_context(kernel_connect(version, port)) for _ in range(count)]
            exchange_many(selector, socks)
            del peer
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            listener, port = kernel_listen(version)
            stack.enter_context(listener)
            stack.enter_context(site.peer("call", KERNEL[version], port, count, "meet"))
            socks = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
            exchange_many(selector, socks)


def datagrams(site, rounds=200):
    largest = site.mtu
    for version in (4, 6):
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        most = largest - (48 if version == 6 else 28)
        port = next(ports)
        sizes = [1, 64, 1000, most - 1, most] * (rounds // 5)
        with site.peer("udp-serve", OURS[version], port, len(sizes), 0) as peer, socket.socket(family, socket.SOCK_DGRAM) as sock:
            peer.ready()
            site.settle()
            sock.settimeout(WAIT_S)
            sock.connect((OURS[version], port))
            for size in sizes:
                sock.send(stream(size))
                assert sock.recv(65536) == stream(size), size
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((KERNEL[version], 0))
            sock.settimeout(WAIT_S)
            with site.peer("udp-call", KERNEL[version], sock.getsockname()[1], rounds, most):
                for _ in range(rounds):
                    data, sender = sock.recvfrom(65536)
                    sock.sendto(data, sender)


# -- programs of the kernel's side


def need(program):
    path = shutil.which(program)
    if not path:
        raise Skip(f"{program} is not installed")
    return path


def ping(site):
    ping_program = need("ping")
    with site.peer("serve", OURS[4], next(ports), 1, "echo") as peer:
        peer.ready()
        try:
            for version in (4, 6):
                for size in (0, 56, site.mtu - (48 if version == 6 else 28)):
                    # Without -w it would wait for the last answers no longer than twice the slowest before them; with it, it
                    # asks more than ten times if the first answers are late.
                    said = run(ping_program, "-n", "-c", 10, "-i", 0.01, "-w", WAIT_S - 5, "-s", size, "-M", "do", OURS[version])
                    assert int(re.search(r"(\d+) received", said)[1]) >= 10 and "DUP" not in said, said
        finally:
            peer.process.kill()
            peer.process.wait()
            peer.process.returncode = 0


def curl(site):
    curl_program = need("curl")
    with tempfile.TemporaryDirectory() as directory:
        for version in (4, 6):
            port, size = next(ports), 5 * MIB + 1
            host = OURS[4] if version == 4 else f"[{OURS[6]}]"
            got, put = Path(directory) / "got", Path(directory) / "put"
            put.write_bytes(stream(3 * MIB))
            with site.peer(OURS[version], port, 3, program="interop_http") as peer:
                peer.ready()
                run(curl_program, "-sSfg", "-m", WAIT_S, "-o", got, f"http://{host}:{port}/{size}")
                assert got.read_bytes() == stream(size), "what curl got is not what was sent"
                said = run(curl_program, "-sSfg", "-m", WAIT_S, "-T", put, f"http://{host}:{port}/")
                assert said == f"{3 * MIB}\n", said
                # many requests on one connection
                said = run(curl_program, "-sSf", "-m", WAIT_S, "-w", "%{num_connects}\n", "-o", got, f"http://{host}:{port}/[0-20]")
                assert said.split() == ["1"] + ["0"] * 20, said


def netcat(site):
    nc = need("nc")
    data = stream(2 * MIB)
    for version in (4, 6):
        port = next(ports)
        with site.peer("serve", OURS[version], port, 1, "echo") as peer:
            peer.ready()
            done = subprocess.run([nc, "-N", OURS[version], str(port)], input=data, stdout=subprocess.PIPE,
                                  timeout=WAIT_S, check=True)
            assert done.stdout == data, f"nc got {len(done.stdout)} of {len(data)} bytes"
        port = next(ports)
        server = subprocess.Popen([nc, "-l", "-N", KERNEL[version], str(port)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE)
        try:
            wait_listener(version, port)
            with site.peer("call", KERNEL[version], port, 1, "send", len(data), 50000, 0):
                out, _ = server.communicate(timeout=WAIT_S)
            assert out == data, f"nc got {len(out)} of {len(data)} bytes"
        finally:
            server.kill()
            server.wait()


def wait_listener(version, port):
    """Until the kernel has a listener there."""
    deadline = time.monotonic() + WAIT_S
    table = Path("/proc/self/net/tcp6" if version == 6 else "/proc/self/net/tcp")
    while not any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                  for line in table.read_text().splitlines()[1:]):
        assert time.monotonic() < deadline, f"nobody listens at {port}"
        time.sleep(0.002)


def iperf(site):
    iperf_program = need("iperf3")
    for version, options in ((4, []), (4, ["-R"]), (6, ["-P", "3"]), (6, ["-R", "-P", "3"])):
        port = next(ports)
        with site.peer(OURS[version], port, program="interop_iperf3") as peer:
            peer.ready()
            said = run(iperf_program, "-c", OURS[version], "-p", port, "-n", "20M", *options)
            assert "iperf Done." in said, said
            print(f"# {site.device} {' '.join(options) or 'kernel sends'}: "
                  f"{re.findall(r'([0-9.]+ [GMK]?bits/sec) .*receiver', said)[-1]}")


# -- demi capture


def tshark(path, *arguments):
    return run(need("tshark"), "-r", path, *arguments, env={**os.environ, "HOME": "/nonexistent"}).splitlines()


def tshark_fields(path, *fields, only=""):
    """Rows of fields. What tshark says of itself, as that it runs as root, has no tabs."""
    lines = tshark(path, *(("-Y", only) if only else ()), "-T", "fields", "-e", "frame.number",
                   *(word for field in fields for word in ("-e", field)))
    return [line.split("\t")[1:] for line in lines if "\t" in line]


@contextlib.contextmanager
def capturing(runtime, pid, path):
    """Captures to the path; until its end everything that passes."""
    process = subprocess.Popen([BUILD / "demi", "capture", str(pid), str(path)], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "XDG_RUNTIME_DIR": runtime, "LD_LIBRARY_PATH": str(BUILD)})
    try:
        said = process.stderr.readline()
        assert said.startswith("capturing"), said
        yield
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=WAIT_S)[1]
        assert process.returncode == 0 and re.fullmatch(r"frames \d+ lost 0\n", said), said
    finally:
        process.kill()
        process.wait()


def captures(site):
    need("tshark")
    with tempfile.TemporaryDirectory() as runtime:
        clean, dirty, port = Path(runtime) / "clean.pcapng", Path(runtime) / "dirty.pcapng", next(ports)
        with site.peer("serve", OURS[4], port, 3, "echo", DEMI_STAT_SOCKET="on", XDG_RUNTIME_DIR=runtime) as peer:
            peer.ready()
            with capturing(runtime, peer.process.pid, clean), kernel_connect(4, port) as sock:
                sender = threading.Thread(target=lambda: (sock.sendall(stream(200000)), sock.shutdown(socket.SHUT_WR)))
                sender.start()
                receive_stream(sock, 200000)
                sender.join(WAIT_S)
                run(need("ping"), "-n", "-c", 3, "-i", 0.01, OURS[6])
            with kernel_connect(4, port) as sock, capturing(runtime, peer.process.pid, dirty):
                send_damaged(site, port)
                sock.sendall(b"x")
                assert receive(sock, 1) == b"x"
            bad_requests(runtime, peer.process.pid)
            kernel_connect(4, port).close()
        check_captures(clean, dirty)


def bad_requests(runtime, pid):
    """One capture at a time, and of processes that are there."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": runtime, "LD_LIBRARY_PATH": str(BUILD)}

    def capture(*arguments):
        done = subprocess.run([BUILD / "demi", "capture", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=WAIT_S, env=environment, check=False)
        return done.returncode, done.stderr
    other = Path(runtime) / "other.pcapng"
    with capturing(runtime, pid, Path(runtime) / "first.pcapng"):
        status, said = capture(pid, other)
        assert status == 1 and "captured already" in said, said
        # `demi stat` is served meanwhile
        run(BUILD / "demi", "stat", pid, env=environment)
    status, said = capture(os.getpid(), other)
    assert status == 1 and "no instance" in said, said
    status, said = capture(pid, other, "--seconds", 0.1)
    assert status == 0 and said.endswith("lost 0\n"), said
    assert capture(pid)[0] == 2 and capture("x", other)[0] == 2
    status, said = capture(pid, "/nonexistent/file")
    assert status == 1 and "No such file" in said, said


def check_captures(clean, dirty):
    rows = tshark_fields(clean, "frame.comment", "tcp.len", "frame.protocols")
    assert sum(int(length or 0) for _, length, _ in rows) >= 400000, f"{len(rows)} frames"
    assert any("icmpv6" in protocols for _, _, protocols in rows)
    dropped = [row for row in rows if row[0] and row[1]]  # what the kernel tells groups is for nobody here
    assert not dropped, dropped
    wrong = tshark_fields(clean, "_ws.expert.message", only="_ws.expert.severity == error || _ws.malformed")
    assert not wrong, wrong
    comments = [row[0] for row in tshark_fields(dirty, "frame.comment", only="frame.comment")]
    for reason in ("tcp_checksum", "udp_port"):
        assert any(reason in comment for comment in comments), comments


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def send_damaged(site, port):
    """A segment with a wrong checksum, and a datagram that nobody wants."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"for nobody", (OURS[4], 9))
    macs = re.search(rf"{re.escape(OURS[4])} .*lladdr (\S+)", run("ip", "neigh", "show", "dev", site.kernels))
    own = re.search(r"link/ether (\S+)", run("ip", "link", "show", site.kernels))
    mac = [bytes.fromhex(found[1].replace(":", "")) for found in (macs, own)]
    addresses = socket.inet_aton(KERNEL[4]) + socket.inet_aton(OURS[4])
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    tcp = struct.pack("!HHIIBBHHH", 50000, port, 1, 1, 0x50, 0x10, 1000, 0xdead, 0)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((site.kernels, 0))
        raw.send(mac[0] + mac[1] + b"\x08\x00" + head + tcp)


# -- applications as they are


def compile_compat(directory):
    library = Path(directory) / "libdemikernel.so"
    library.symlink_to(BUILD / "libdemitasse.so")
    for name in PROGRAMS:
        run("gcc", "-std=c99", "-D_POSIX_C_SOURCE=199309L", "-O1", f"-I{ROOT / 'include'}", ROOT / "tests/compat" / f"{name}.c",
            "-o", Path(directory) / name, library)


def kernel_start(site, program, *arguments):
    """The same program over the kernel's sockets, here."""
    return subprocess.Popen([str(program), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, env={**site.environment, "LIBOS": "catnap"})


def finish(process):
    try:
        output, _ = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"{process.args} does not end: {output}") from None
    assert process.returncode == 0, f"{process.args}: status {process.returncode}: {output}"
    return output


def both_ways(site):
    """(start of the server, its address, start of the client): ours against the kernel's, then the other way."""
    def ours(*command):
        return site.start(*command)

    def kernels(*command):
        return kernel_start(site, *command)
    return (ours, OURS[4], kernels), (kernels, KERNEL[4], ours)


@contextlib.contextmanager
def serving(start, *command):
    process = start(*command)
    try:
        yield process
        assert process.poll() is None, f"{command}: status {process.returncode}: {process.stdout.read()}"
    finally:
        process.kill()
        process.communicate()


def client_until_served(start, *command):
    """Runs a client again while nobody listens: the server is about to."""
    deadline = time.monotonic() + WAIT_S
    while True:
        process = start(*command)
        output, _ = process.communicate(timeout=WAIT_S)
        refused = re.search("refused|no route|timed out|OPC_CONNECT|opcode == opcode", output, re.IGNORECASE)
        if process.returncode == 0 or not refused or time.monotonic() > deadline:
            assert process.returncode == 0, f"{command}: status {process.returncode}: {output}"
            return output


def examples(site):
    directory = BUILD / "examples"
    for server, address, client in both_ways(site):
        port = next(ports)
        with serving(server, directory / "echo_server", address, port):
            for size, rounds in ((64, 1000), (1, 50), (100000, 20), (4 * MIB, 2)):
                said = client_until_served(client, directory / "echo_client", address, port, size, rounds)
                assert f"{rounds} round trips of {size} bytes" in said, said
        port = next(ports)
        with serving(server, directory / "udp_echo", "server", address, port):
            said = client_until_served(client, directory / "udp_echo", "client", address, port, 300)
            assert said == "300 datagrams went and came back\n", said


def compat(site):
    if sanitized():
        raise Skip("a sanitized library wants programs that are sanitized too")
    with tempfile.TemporaryDirectory() as directory:
        compile_compat(directory)
        at = Path(directory)
        for name in ("sizes", "syscalls", "wait-any"):
            finish(site.start(at / name))
        for name in ("tcp-ping-pong", "tcp-push-pop"):
            for server, address, client in both_ways(site):
                for sizes in ((), (1, 500), (100000, 50)):
                    port = next(ports)
                    process = server(at / name, "--server", address, port, *sizes)
                    try:
                        if address == OURS[4]:
                            site.settle()
                        client_until_served(client, at / name, "--client", address, port, *sizes)
                        finish(process)
                    finally:
                        process.kill()
                        process.wait()
        for name in ("udp-ping-pong", "udp-push-pop"):
            for (server, address, client), (_, back, _) in zip(both_ways(site), reversed(both_ways(site))):
                for sizes in ((64, 100), (1400, 30)):
                    port = next(ports)
                    remote = (back, port) if name == "udp-ping-pong" else ()
                    process = server(at / name, "--server", address, port, *remote, *sizes)
                    try:
                        assert process.stdout.readline() == "bound\n"
                        if address == OURS[4]:
                            site.settle()
                        finish(client(at / name, "--client", back, port, address, port, *sizes))
                        finish(process)
                    finally:
                        process.kill()
                        process.wait()


# -- what runs, and where


def lossy(site):
    """What goes wrong on the way shows in time, never in bytes."""
    for version in (4, 6):
        kernel_receives(site, version, "serve", 2 * MIB, 16 * KIB)
        kernel_sends(site, version, "call", 2 * MIB)
        with connection(site, version, "serve", "ask", 100, 64) as sock:
            echo(sock)
            sock.shutdown(socket.SHUT_WR)


def tests(*devices):
    for device, settings in devices:
        for function in (bulk_both_ways, ping_pong, one_large_push, duplex, half_closes, resets, nobody_listens, datagrams,
                         thousand_connections, ping, curl, netcat, iperf, captures, examples, compat):
            yield device, settings, function
        for mtu in (1280, 9000):
            for function in (bulk_both_ways, ping_pong, datagrams, ping):
                yield device, {"mtu": mtu, **settings}, function
        yield device, {"fault": "drop=1%,seed=3", **settings}, lossy
        yield device, {"fault": "drop=0.5%,duplicate=2%,reorder=2%,corrupt=0.5%,delay=200us,seed=5", **settings}, lossy


def give_up(*_):
    print(f"Bail out! not done after {TEST_S} s", flush=True)
    os._exit(1)


def skip_reason():
    if os.geteuid():
        return "privilege: network namespaces and interfaces need root"
    if libc.unshare(CLONE_NEWNET):
        return f"privilege: no network namespace: {os.strerror(ctypes.get_errno())}"
    run("ip", "link", "set", "lo", "up")
    return None


def outcome(place, device, settings, function):
    try:
        with place(device, **settings) as site:
            function(site)
    except Skip as reason:
        return "ok", f" # SKIP {reason}"
    except (AssertionError, OSError, subprocess.SubprocessError, IndexError) as error:
        frame = error.__traceback__
        while frame.tb_next and frame.tb_next.tb_frame.f_code.co_filename == __file__:
            frame = frame.tb_next
        lines = f"{type(error).__name__} at line {frame.tb_lineno}: {error}"[:4000].splitlines()
        return "not ok", "".join(f"\n# {line}" for line in lines)
    return "ok", ""


def report(what, cases, missing=None, word="", seconds=TEST_S, place=Site):
    """Runs each (device, settings, function) with the word in its name at such a place, and prints TAP. Returns whether one failed."""
    reason = skip_reason() or missing
    if reason:
        print(f"1..1\nok 1 - {what} # SKIP {reason}")
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    count = failed = 0
    for device, settings, function in cases:
        name = " ".join([device, *(f"{key} {value}" for key, value in settings.items()), function.__name__.replace("_", " ")])
        if word not in name:
            continue
        count += 1
        begin = time.monotonic()
        result, detail = outcome(place, device, settings, function)
        failed += result != "ok"
        print(f"{result} {count} - {name}{detail}\n# {time.monotonic() - begin:.1f} s", flush=True)
    print(f"1..{count}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(report("interop", tests(("afpacket", {}), ("tap", {})), word="".join(sys.argv[1:2])))
