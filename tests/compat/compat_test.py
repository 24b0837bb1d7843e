#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs written for Demikernel's C interface: they compile in strict C99 without a warning against
include/, link with a file named libdemikernel.so, and run, with a configuration file of Demikernel's and without.

Prints TAP. Nothing waits for longer than WAIT_S.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ["DEMI"]).parent if "DEMI" in os.environ else ROOT / "build"
WAIT_S = 30
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=199309L", "-O2"]
PROGRAMS = ["sizes", "syscalls", "tcp-ping-pong", "tcp-push-pop", "udp-ping-pong", "udp-push-pop", "wait-any"]

# As Demikernel's documentation and its tests have them.
CONFIGURATION = """\
demikernel:
  local_ipv4_addr: 127.0.0.1
  local_link_addr: "ff:ff:ff:ff:ff:ff"
raw_socket:
  linux_interface_name: "abcde"
  xdp_interface_index: 0
dpdk:
  eal_init: ["", "-c", "0xff", "-n", "4", "-a", "WW:WW.W","--proc-type=auto"]
tcp_socket_options:
  keepalive:
    enabled: false
    time_millis: 0
    interval: 0
  linger:
    enabled: true
    time_seconds: 0
  nodelay: true
inetstack_config:
  mtu: 1500
  mss: 1500
  enable_jumbo_frames: false
  udp_checksum_offload: false
  tcp_checksum_offload: false
  arp_table:
    "ff:ff:ff:ff:ff:ff": "127.0.0.1"
  arp_cache_ttl: 600
  arp_request_timeout: 1
  arp_request_retries: 5
"""

results = []


def result(name, problem):
    results.append(not problem)
    print(f"{'not ok' if problem else 'ok'} {len(results)} - {name}")
    for line in (problem or "").splitlines()[-20:]:
        print(f"# {line}")
    sys.stdout.flush()


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def listens(port):
    """Does somebody listen there? Read from the kernel's table: a trial connection would be the server's client."""
    wanted = f":{int(port):04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(wanted) and words[3] == "0A":
            return True
    return False


class Site:
    """Where the programs are built and run."""

    def __init__(self, scratch):
        self.scratch = Path(scratch)
        self.library = self.scratch / "lib" / "libdemikernel.so"
        self.library.parent.mkdir()
        self.library.symlink_to(BUILD / "libdemitasse.so")
        self.configuration = self.scratch / "demikernel.yaml"
        self.configuration.write_text(CONFIGURATION)

    def environment(self, configured):
        env = {**os.environ, "LD_LIBRARY_PATH": str(BUILD)}
        env.pop("CONFIG_PATH", None)
        env.pop("LIBOS", None)
        if configured:
            env.update(CONFIG_PATH=str(self.configuration), LIBOS="catnap")
        return env

    def compile(self, compiler, name):
        # The library as a file argument, as their makefiles have it.
        done = subprocess.run([compiler, *FLAGS, f"-I{ROOT / 'include'}", HERE / f"{name}.c", "-o", self.scratch / name,
                               self.library], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=WAIT_S, check=False)
        return f"status {done.returncode}\n{done.stdout}" if done.returncode else ""

    def start(self, configured, name, *arguments):
        return subprocess.Popen([self.scratch / name, *arguments], env=self.environment(configured), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def finish(self, process):
        try:
            output, _ = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return f"{process.args[0]} does not end\n{output}"
        return f"{process.args[0]}: status {process.returncode}\n{output}" if process.returncode else ""

    def alone(self, configured, name):
        return self.finish(self.start(configured, name))

    def tcp(self, configured, name, *sizes):
        port = free_port(socket.SOCK_STREAM)
        server = self.start(configured, name, "--server", "127.0.0.1", port, *sizes)
        deadline = time.monotonic() + WAIT_S
        while not listens(port) and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        client = self.start(configured, name, "--client", "127.0.0.1", port, *sizes)
        return self.finish(client) + self.finish(server)

    def udp(self, configured, name, *sizes):
        ports = [free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)]
        remote = ["127.0.0.1", ports[1]] if name == "udp-ping-pong" else []
        server = self.start(configured, name, "--server", "127.0.0.1", ports[0], *remote, *sizes)
        server.stdout.readline()  # it is bound
        client = self.start(configured, name, "--client", "127.0.0.1", ports[1], "127.0.0.1", ports[0], *sizes)
        return self.finish(client) + self.finish(server)


def run_all(site):
    for compiler in [name for name in ("gcc", "clang") if shutil.which(name)]:
        for name in PROGRAMS:
            result(f"{name}: {compiler}", site.compile(compiler, name))
    for configured in (False, True):
        how = "with a file of Demikernel's" if configured else "without a file"
        for name in ("sizes", "syscalls", "wait-any"):
            result(f"{name}, {how}", site.alone(configured, name))
        for name in ("tcp-ping-pong", "tcp-push-pop"):
            for sizes in ((), ("1", "500"), ("100000", "50")):
                result(f"{name} {' '.join(sizes)}, {how}", site.tcp(configured, name, *sizes))
        for name in ("udp-ping-pong", "udp-push-pop"):
            for sizes in (("64", "100"), ("1400", "30")):
                result(f"{name} {' '.join(sizes)}, {how}", site.udp(configured, name, *sizes))


def main():
    symbols = subprocess.run(["nm", "-D", BUILD / "libdemitasse.so"], stdout=subprocess.PIPE, text=True, check=True).stdout
    if "__asan_init" in symbols or "__tsan_init" in symbols:
        print("1..0 # SKIP a sanitized library wants programs that are sanitized too")
        return
    if not shutil.which("gcc") and not shutil.which("clang"):
        print("1..0 # SKIP no compiler")
        return
    with tempfile.TemporaryDirectory() as scratch:
        run_all(Site(scratch))
    print(f"1..{len(results)}")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
