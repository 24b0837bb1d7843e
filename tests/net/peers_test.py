#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real peers over AF_XDP, in both of its modes: curl against our HTTP server, our HTTP client against nginx, our Redis client
against redis-server, on the kernel's side of a veth pair.

Prints TAP. Needs root. The servers are the test's own: in its network namespace, with files of their own, ended by their ids.

usage: peers_test.py [WORD]      only the tests with WORD in their names
"""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import interop_test as interop  # noqa: E402  the link, and processes on our side of it
from interop_test import BUILD, KERNEL, KIB, MIB, OURS, WAIT_S, Site, Skip, need, run  # noqa: E402

EXAMPLES = BUILD / "examples"


def example(site, name, *arguments):
    return site.start(EXAMPLES / name, *arguments)


@contextlib.contextmanager
def running(process, ready):
    """A server of either side, once it answers."""
    try:
        deadline = time.monotonic() + WAIT_S
        while not ready():
            assert process.poll() is None, f"a server ended: {process.stdout.read() if process.stdout else process.returncode}"
            assert time.monotonic() < deadline, "a server is never ready"
            time.sleep(0.02)
        yield process
        assert process.poll() is None, f"a server ended: {process.stdout.read() if process.stdout else process.returncode}"
    finally:
        process.terminate()
        process.wait(WAIT_S)
        if process.stdout:
            process.stdout.close()


def answers(address, port):
    try:
        socket.create_connection((address, port), timeout=1).close()
        return True
    except OSError:
        return False


def finish(process):
    """A program of ours that ends by itself: what it says."""
    said = process.communicate(timeout=interop.WAIT_S)[0]
    assert process.returncode == 0, f"status {process.returncode}: {said[-500:]}"
    return said


# -- peers


def curl(site):
    curl_program = need("curl")
    with tempfile.TemporaryDirectory() as directory:
        small, large = Path(directory) / "small", Path(directory) / "large"
        small.write_bytes(os.urandom(1000))
        large.write_bytes(os.urandom(20 * MIB))
        for version in (4, 6):
            host = OURS[version] if version == 4 else f"[{OURS[version]}]"
            for file, times in ((small, 50), (large, 2)):
                port = next(interop.ports)
                with running(example(site, "http_server", OURS[version], port, file), lambda: answers(OURS[version], port)):
                    got = Path(directory) / "got"
                    url = f"http://{host}:{port}/"
                    said = run(curl_program, "-sSfg", "-m", WAIT_S, "-w", "%{num_connects}\n",
                               *(word for _ in range(times) for word in ("-o", got, url)))
                    assert sum(map(int, said.split())) == 1, f"not one connection: {said}"
                    assert got.read_bytes() == file.read_bytes(), "curl got other bytes"
                    names = [Path(directory) / f"got{i}" for i in range(8)]
                    run(curl_program, "-sSfg", "-Z", "-m", WAIT_S, *(word for name in names for word in ("-o", name, url)))
                    assert all(name.read_bytes() == file.read_bytes() for name in names), "curl got other bytes, in parallel"


@contextlib.contextmanager
def nginx(directory, port):
    program = need("nginx")
    (directory / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {directory}/pid; error_log {directory}/error; user root;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
        fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
        server {{ listen {KERNEL[4]}:{port}; listen [{KERNEL[6]}]:{port}; root {directory}; }} }}
""")
    with running(subprocess.Popen([program, "-p", directory, "-c", directory / "nginx.conf", "-e", directory / "error"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
                 lambda: answers(KERNEL[4], port)):
        yield


def nginx_serves(site):
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), next(interop.ports)
        for file, size in (("small", 1000), ("large", 50 * MIB)):
            (directory / file).write_bytes(os.urandom(size))
        with nginx(directory, port):
            for version in (4, 6):
                for file, times in (("small", 50), ("large", 1)):
                    process = subprocess.Popen([str(EXAMPLES / "http_get"), KERNEL[version], str(port), f"/{file}", str(times)],
                                               env=site.environment, preexec_fn=site.enter, stdout=subprocess.PIPE)
                    got = process.communicate(timeout=WAIT_S)[0]
                    assert process.returncode == 0, f"http_get: status {process.returncode}"
                    assert hashlib.sha256(got).digest() == hashlib.sha256((directory / file).read_bytes() * times).digest(), \
                        f"{file}: other bytes"


@contextlib.contextmanager
def redis(directory, port):
    program = need("redis-server")
    with running(subprocess.Popen([program, "--bind", KERNEL[4], KERNEL[6], "--port", str(port), "--dir", directory, "--save", "",
                                   "--appendonly", "no", "--protected-mode", "no", "--daemonize", "no"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
                 lambda: answers(KERNEL[4], port)):
        yield


def redis_serves(site):
    with tempfile.TemporaryDirectory() as directory:
        port = next(interop.ports)
        with redis(directory, port):
            for version in (4, 6):
                for count, size in ((10000, 64), (200, 100 * KIB), (4, MIB)):
                    said = finish(example(site, "redis_client", KERNEL[version], port, count, size))
                    assert said.endswith(f"{count} keys of {size} bytes set, read back and compared\n"), said


def iperf3(site):
    interop.iperf(site)


# -- all of it


def main():
    cases = [("afxdp", {"xdp_mode": mode}, function) for mode in interop.xdp_modes()
             for function in (curl, nginx_serves, redis_serves, iperf3)]
    return interop.report("peers", cases, missing=interop.NO_XDP, word="".join(sys.argv[1:2]))


if __name__ == "__main__":
    sys.exit(main())
