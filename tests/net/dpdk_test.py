#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""catnip at both ends of DPDK's virtual links, shared memory between two processes: what is carried, a peer that is killed and
another that comes, an idle instance, and what is refused. Prints TAP.

usage: dpdk_test.py [WORD]      only the tests with WORD in their names
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import interop_test as interop  # noqa: E402
from interop_test import BUILD, KIB, MIB, WAIT_S, Peer  # noqa: E402

TEST_S = 580  # both ends spin, where a machine has one core for them
SERVER = {4: "10.5.0.1", 6: "fd00:5::1"}
CLIENT = {4: "10.5.0.2", 6: "fd00:5::2"}
MEMIF = "net_memif0,socket={socket},socket-abstract=no,role={role}"
VIRTIO = "net_virtio_user0,path={socket},queues=1,queue_size=1024"
# The server's end, which makes the socket, and the client's.
LINKS = {
    "memif copy": (MEMIF, MEMIF),
    "memif zero copy": (MEMIF, MEMIF + ",zero-copy=yes"),
    "memif large": (MEMIF + ",bsize=9216", MEMIF + ",bsize=9216"),
    "vhost packed": ("net_vhost0,iface={socket},queues=1", VIRTIO + ",packed_vq=1,mrg_rxbuf=1,in_order=1"),
    "vhost split": ("net_vhost0,iface={socket},queues=1", VIRTIO),
    "vhost tso": ("net_vhost0,iface={socket},queues=1,tso=1", VIRTIO + ",packed_vq=1,mrg_rxbuf=1,in_order=1"),
}


class Link:
    """Two processes' ends of one link. settings: keys of ours, for both."""

    def __init__(self, name, **settings):
        self.name, self.settings = name, settings

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def environment(self, end):
        device = LINKS[self.name][end].format(socket=f"{self.directory.name}/socket", role=("server", "client")[end])
        ours = (SERVER, CLIENT)[end]
        return {**os.environ, "LD_LIBRARY_PATH": str(BUILD), "DEMI_PLUGIN_DIR": str(BUILD), "LIBOS": "catnip",
                "DEMI_DPDK_DEVICE": device, "DEMI_ADDRESSES": f"{ours[4]}/24,{ours[6]}/64", "DEMI_DAD_PROBES": "0",
                **{f"DEMI_{key.upper()}": value for key, value in self.settings.items()}}

    def start(self, end, program, *arguments):
        return subprocess.Popen([str(program), *map(str, arguments)], env=self.environment(end), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def peer(self, end, *arguments):
        place = self
        class Here:  # what Peer starts its program by
            @staticmethod
            def start(program, *words, **_):
                return place.start(end, program, *words)
        return Peer(Here, "interop_peer", arguments, {})


def transfer(link, version, *tasks):
    """A server does the first task for a client that does the second."""
    port = next(interop.ports)
    with link.peer(0, "serve", SERVER[version], port, 1, *tasks[0]) as server:
        server.ready()
        with link.peer(1, "call", SERVER[version], port, 1, *tasks[1]):
            pass


def streams(link):
    for version in (4, 6):
        transfer(link, version, ("receive", 4 * MIB, 1234), ("send", 4 * MIB, 100000, 1234))
        transfer(link, version, ("send", 4 * MIB, 16 * KIB, 1234), ("receive", 4 * MIB, 1234))


def streams_of_trouble(link):
    """A megabyte each way: what is lost costs time, and much of it where both ends spin on a part of a core."""
    for version in (4, 6):
        transfer(link, version, ("receive", MIB, 1234), ("send", MIB, 100000, 1234))
        transfer(link, version, ("send", MIB, 16 * KIB, 1234), ("receive", MIB, 1234))


def echoes(link):
    for version in (4, 6):
        for size in (1, 64, 1000, 20000):
            transfer(link, version, ("echo",), ("ask", 100, size))


def datagrams(link):
    for version in (4, 6):
        for size in (1, 64, 1400):
            port = next(interop.ports)
            with link.peer(0, "udp-serve", SERVER[version], port, 100, size) as server:
                server.ready()
                with link.peer(1, "udp-call", SERVER[version], port, 100, size):
                    pass


@contextlib.contextmanager
def echo_server(link):
    """A server of the examples, whose device says in which way it works once its statistics are there."""
    server = link.start(0, BUILD / "examples/echo_server", SERVER[4], 7000)
    try:
        deadline = time.monotonic() + WAIT_S
        while not (mode := re.search(r"^  mode +(.*)", stat(server), re.M)):
            assert server.poll() is None and time.monotonic() < deadline, f"no statistics of {server.args}: {server.poll()}"
            time.sleep(0.05)
        yield server, mode[1]
    finally:
        server.kill()
        said = server.communicate()[0]
        assert "rror" not in said, said


def stat(process):
    return subprocess.run([str(BUILD / "demi"), "stat", str(process.pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True, timeout=WAIT_S, check=False).stdout


def ask(link, size=64, rounds=100):
    done = subprocess.run([str(BUILD / "examples/echo_client"), SERVER[4], "7000", str(size), str(rounds)], env=link.environment(1),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout


def peer_dies(link):
    """The client's process is killed in the middle; others find the server's device as good as before."""
    with echo_server(link) as (server, _):
        for _ in range(3):
            ask(link)
            client = link.start(1, BUILD / "examples/echo_client", SERVER[4], 7000, 5000, 100000000)
            frames, deadline = received(server), time.monotonic() + WAIT_S
            while received(server) < frames + 1000:
                assert client.poll() is None and time.monotonic() < deadline, "no frames arrive"
                time.sleep(0.02)
            client.kill()
            client.communicate()
        ask(link, 100000)


def offloads(link):
    """What the port offers is used, and told."""
    wanted = {"memif": ("false", "false", "4", "false", "false"), "vhost": ("true", "true", "4", "false", "false")}[link.name.split()[0]]
    with echo_server(link) as (server, _):
        said = stat(server)
        got = tuple(re.search(rf"^  {key} +(\S+)", said, re.M)[1]
                    for key in ("tx_checksum_offload", "rx_checksum_offload", "tx_segments", "lro", "rss"))
        assert got == wanted, said


def received(server):
    return int(re.search(r"^  rx_frames +(\d+)", stat(server), re.M)[1])


def ticks(process):
    words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def idle(link):
    """With the receive interrupt an idle instance sleeps, and wakes."""
    with echo_server(link) as (server, mode):
        if "interrupts" not in mode:
            raise interop.Skip(f"{mode}: its driver has no receive interrupt")
        for _ in range(2):
            ask(link)
            before = ticks(server)
            time.sleep(1)
            used = ticks(server) - before
            assert used <= 2, f"{used} ticks of 100 in an idle second"


def refuses(link, words, **settings):
    """A program that wants the server's end gets one error with these words, and lives on."""
    environment = {**link.environment(0), **{f"DEMI_{key.upper()}": value for key, value in settings.items()}}
    done = subprocess.run([str(BUILD / "tests/interop_peer"), "call", SERVER[4], "7000", "1", "echo"], timeout=WAIT_S,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 1 and words in done.stdout, f"{settings}: status {done.returncode}: {done.stdout}"
    assert done.stdout.count("error:") == 1, done.stdout


def refused(link):
    for device, words in (("", "demitasse.dpdk.device: catnip needs one"),
                          ("net_nothing0", "DPDK, device net_nothing0: can't be used"),
                          ("net_memif0,role=judge", "DPDK, device net_memif0: can't be used"),
                          ("net_af_xdp0,iface=lo", "DPDK, device net_af_xdp0: wants memory laid out as DPDK does"),
                          ("ffff:ff:1f.7", "DPDK")):
        refuses(link, words, dpdk_device=device)
    refuses(link, "inetstack_config.mtu: 9000, and DPDK's device net_memif0 takes packets of 2034 bytes at most", mtu="9000")
    refuses(link, "demitasse.dpdk.device: empty, and dpdk.eal_init makes no port", dpdk_device="", dpdk_eal="-n 4")
    refuses(link, "DPDK does not start", dpdk_eal="--nonsense")


def taken(link):
    """What another process has is refused, and it keeps it."""
    with echo_server(link):
        refuses(link, "can't be used")
        ask(link)


def killed(link):
    """The server's process is killed; the next one finds its socket, and takes the place."""
    for _ in range(2):
        with echo_server(link):
            ask(link)


def eal_list(link):
    """A file of Demikernel's: the list of the EAL's arguments makes the device, which is the first port."""
    path = Path(link.directory.name) / "demikernel.yaml"
    for end in (0, 1):
        device = link.environment(end)["DEMI_DPDK_DEVICE"]
        (path.with_name(f"{end}.yaml")).write_text(
            f'dpdk:\n  eal_init: ["", "-c", "0xff", "-n", "4", "--lcores=0-7", "--vdev={device}", "--proc-type=auto"]\n')
    original = link.environment
    link.environment = lambda end: {**original(end), "DEMI_DPDK_DEVICE": "", "CONFIG_PATH": str(path.with_name(f"{end}.yaml"))}
    with echo_server(link) as (_, mode):
        assert mode.startswith("net_memif0"), mode
        ask(link, 20000)


def tests():
    for link in LINKS:
        for function in (streams, echoes, datagrams, peer_dies, idle):
            if link != "vhost tso" or function is streams:
                yield link, {}, function
    yield "memif copy", {"fault": "drop=1%,duplicate=1%,reorder=1%,corrupt=0.5%,seed=7"}, streams_of_trouble
    yield "memif copy", {}, offloads
    yield "vhost split", {}, offloads
    yield "memif copy", {}, refused
    yield "memif copy", {}, taken
    yield "vhost split", {}, taken
    yield "memif copy", {}, killed
    yield "vhost split", {}, killed
    yield "memif copy", {}, eal_list


if __name__ == "__main__":
    sys.exit(interop.report("catnip", tests(), missing=interop.NO_DPDK, word="".join(sys.argv[1:2]), seconds=TEST_S, place=Link))
