#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A server of ours on a memif whose peer is hostile: frames of all lengths and of nonsense, rings that lie, and a socket on which
anything is said. After each the server is there, and answers an ARP request. Prints TAP.

Not here is what only DPDK's driver could check, which takes its peer's word (seen with 22.11): a region shorter than announced,
descriptors and rings outside of it, more rings than there are, a chain that never ends or is longer than the memory, interrupts by
a file that blocks or is a broken pipe, a greeting of a server's, and a peer that goes before it was greeted.

usage: memif_peer_test.py [WORD]      only the tests with WORD in their names
"""

import contextlib
import os
import random
import re
import struct
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import dpdk_test as dpdk  # noqa: E402
import interop_test as interop  # noqa: E402
import memif_peer as memif  # noqa: E402
from memif_peer import ACK, HELLO, NEXT, PATIENCE_S, TO_SERVER, TO_US, Memif, Refused  # noqa: E402

SEED = 20
TEST_S = 110
LEFT = 1024  # objects that may be left for a while: parts of datagrams, frames that wait for an address, half connections
OURS = bytes([2, 0, 0, 0, 5, 2])
BROADCAST = b"\xff" * 6
ADDRESS = {end: bytes(map(int, end.split("."))) for end in (dpdk.SERVER[4], dpdk.CLIENT[4])}
SERVER_6 = bytes.fromhex("fd000005000000000000000000000001")
CLIENT_6 = bytes.fromhex("fd000005000000000000000000000002")
ETHERNET_MIN = 60


# -- frames


def ethernet(protocol, payload, to=BROADCAST, pad=ETHERNET_MIN):
    return (to + OURS + struct.pack("!H", protocol) + payload).ljust(pad, b"\0")


def arp_request():
    ends = OURS, ADDRESS[dpdk.CLIENT[4]], b"", ADDRESS[dpdk.SERVER[4]]
    return ethernet(0x806, struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, *ends))


def checksum(*parts):
    data = b"".join(parts)
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


CHECKSUM_AT = {1: 2, 2: 2, 6: 16, 17: 6, 58: 2}  # in the headers behind IP's


def sealed(protocol, payload, ends, length):
    """With the transport checksum that fits, also if the length is a lie. ends: both addresses."""
    at = CHECKSUM_AT.get(protocol)
    if at is None or len(payload) < at + 2:
        return payload
    data = payload[:max(length, 0)]
    pseudo = b"" if protocol < 3 else ends + struct.pack("!II", max(length, 0), protocol)
    return payload[:at] + struct.pack("!H", checksum(pseudo, data[:at], b"\0\0", data[at + 2:])) + payload[at + 2:]


def ipv4(protocol, payload, total=None, header_words=5, fragment=0):
    """Whose total length and header length may lie; the checksums fit."""
    ends = ADDRESS[dpdk.CLIENT[4]] + ADDRESS[dpdk.SERVER[4]]
    total = 20 + len(payload) if total is None else total & 0xffff
    payload = sealed(protocol, payload, ends, total - 20)
    header = struct.pack("!BBHHHBBH8s", 0x40 | header_words, 0, total, 1, fragment, 64, protocol, 0, ends)
    summed = checksum((header + payload)[:max(20, 4 * header_words)])
    return header[:10] + struct.pack("!H", summed) + header[12:] + payload


def ipv6(protocol, payload, length=None):
    ends = CLIENT_6 + SERVER_6
    length = len(payload) if length is None else length & 0xffff
    return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + ends + sealed(protocol, payload, ends, length)


def tcp(flags=2, words=5, payload=b"", port=40000):
    return struct.pack("!HHIIBBHHH", port, 7000, 1, 0, words << 4, flags, 65535, 0, 0) + payload


def udp(length, payload=b""):
    return struct.pack("!HHHH", 40000, 7000, length, 0) + payload


def packets():
    """One good packet of each kind, as type and payload."""
    return [(0x806, arp_request()[14:42]), (0x800, ipv4(6, tcp())), (0x800, ipv4(17, udp(16, b"demitass"))),
            (0x800, ipv4(1, struct.pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(16))),
            (0x86dd, ipv6(6, tcp())), (0x86dd, ipv6(58, struct.pack("!BBH4s16s", 135, 0, 0, b"", SERVER_6))),
            (0x86dd, ipv6(44, struct.pack("!BBHI", 6, 0, 1, 7) + tcp())), (0x8100, struct.pack("!HH", 5, 0x800) + ipv4(6, tcp()))]


# -- the server, and peers of it


class Server:
    """The one that is attacked. mac: where it is, once it has answered."""

    def __init__(self, link, process):
        self.link, self.process = link, process
        self.path = Path(link.directory.name) / "socket"
        self.mac = None

    def peer(self, **shape):
        """A new one that is connected; while the server lets go of another it is refused."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            peer = None
            try:
                peer = Memif(self.path, **shape)
                return peer.shake_hands()
            except (Refused, OSError) as reason:
                if peer:
                    peer.close()
                self.lives()
                assert time.monotonic() < deadline, f"no connection: {reason}"
                time.sleep(0.005)

    def lives(self):
        assert self.process.poll() is None, f"the server ended: {self.process.returncode}: {self.process.stdout.read()[-3000:]}"

    def answers(self, peer):
        """It does, to this peer: an ARP request."""
        try:
            memif.until(lambda: self.asked(peer), "an answer")
        finally:
            self.lives()

    def asked(self, peer):
        """Has it answered?  If there was no room for that, then there is now."""
        if peer.room() > 1:
            peer.send(arp_request())
        for _ in range(50):
            for frame in peer.receive():
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == ADDRESS[dpdk.SERVER[4]]:
                    self.mac = frame[22:28]
                    return True
            time.sleep(0.002)
        return False

    def answers_anyone(self):
        """To a new peer."""
        with self.peer() as peer:
            self.answers(peer)

    def received(self):
        return dpdk.received(self.process)

    def live(self):
        """Objects of its heap."""
        return int(re.search(r"^  live_objects +(\d+)", dpdk.stat(self.process), re.M)[1])

    def sees(self, count):
        """The statistics come to have so many frames, at least."""
        memif.until(lambda: self.received() >= count, f"{count} frames received")


@contextlib.contextmanager
def attacked(link):
    """A server and a peer of it; at the end it answers this peer, unless it was closed, and another, and has lost no memory."""
    with dpdk.echo_server(link) as (process, _):
        server = Server(link, process)
        live = server.live()
        with server.peer() as peer:
            server.answers(peer)
            try:
                yield server, peer
            except (AssertionError, OSError, Refused):
                server.lives()
                raise
            if peer.memory:
                server.answers(peer)
        server.answers_anyone()
        memif.until(lambda: server.live() <= live + LEFT, f"{live} objects, as before")


def attack(link, frames):
    """All of these frames are received, whatever becomes of them. frames: by the server's address."""
    with attacked(link) as (server, peer):
        before, count = server.received(), 0
        for frame in frames(server.mac):
            peer.send(frame)
            peer.receive()
            count += 1
        peer.drain()
        server.sees(before + count)


# -- frames


def lengths_0_to_60(link):
    def frames(mac):
        for protocol, payload in packets():
            whole = ethernet(protocol, payload, mac)
            for length in range(ETHERNET_MIN + 1):
                yield whole[:length]
    attack(link, frames)


def lengths_that_lie(link):
    """Of IP, of TCP's and IP's headers, of UDP, of extension headers, of fragments."""
    def frames(mac):
        lies = (0, 1, 19, 20, 21, 27, 28, 39, 40, 41, 59, 60, 61, 100, 1400, 1500, 1501, 2048, 32768, 65535)
        for pad in (14, ETHERNET_MIN, 1514):
            for total in lies:
                for protocol, payload in ((6, tcp()), (17, udp(total)), (1, bytes(8)), (2, bytes(8)), (6, b"")):
                    yield ethernet(0x800, ipv4(protocol, payload, total), mac, pad)
                    yield ethernet(0x86dd, ipv6(protocol, payload, total), mac, pad)
                yield ethernet(0x86dd, ipv6(58, bytes([134]) + bytes(15), total), mac, pad)
            for words in range(16):
                yield ethernet(0x800, ipv4(6, tcp(), header_words=words), mac, pad)
                yield ethernet(0x800, ipv4(6, tcp(words=words)), mac, pad)
                yield ethernet(0x86dd, ipv6(6, tcp(words=words)), mac, pad)
            for header in (0, 43, 44, 51, 60, 135):  # that says that it is long, or followed by another of its kind
                yield ethernet(0x86dd, ipv6(header, bytes([header, 255]) + bytes(6)), mac, pad)
                yield ethernet(0x86dd, ipv6(header, bytes([header, 0, 1, 4, 0, 0, 0, 0]) * 180), mac, pad)
            for fragment in (0x2000, 0x1fff, 0x3fff, 1, 0x2001):
                yield ethernet(0x800, ipv4(17, bytes(24), fragment=fragment), mac, pad)
    attack(link, frames)


def options_that_lie(link):
    """Of TCP and of IPv4: kinds and lengths of all sorts, in headers as long as they may be."""
    rng = random.Random(SEED)
    def frames(mac):
        for n in range(1500):
            options = bytes(rng.choice((0, 1, 2, 3, 4, 5, 8, 10, 19, 34, 40, 68, 131, 148, 255)) for _ in range(40))
            size = rng.randrange(0, 41, 4)
            flags = rng.choice((2, 0x10, 0x12, 4, 1, 0x18, 0xc2, 0xff))
            segment = tcp(flags, 5 + size // 4, options[:size], 40000 + n)
            yield ethernet(0x800, ipv4(6, segment), mac)
            yield ethernet(0x86dd, ipv6(6, segment), mac)
            yield ethernet(0x800, ipv4(17, options[:size] + udp(8), header_words=5 + size // 4), mac)
    attack(link, frames)


def around_a_buffer(link):
    """Frames of a buffer, and of a bit less and more, one and two in a piece."""
    def frames(mac):
        for size in (1513, 1514, 1515, 1518, 2033, 2034, 2035, 2046, 2047, 2048, 2049, 2050, 4095, 4096, 4097):
            for protocol, payload in packets():
                yield ethernet(protocol, payload, mac, size)
    attack(link, frames)


def larger_than_a_buffer(link):
    """Chains of descriptors."""
    def frames(mac):
        for size in (6144, 9000, 9014, 65000, 65535, 70000, 200000):
            for protocol, payload in packets():
                yield ethernet(protocol, payload, mac, size)
        for pieces in (2, 32, 33, 64, 500):
            yield ethernet(0x800, ipv4(6, tcp()), mac, pieces * 2048)
    attack(link, frames)


def chains_of_nothing(link):
    """Of empty pieces, and of pieces of a byte."""
    with attacked(link) as (server, peer):
        before = server.received()
        for length in (0, 1):
            for pieces in (2, 60, 600):
                for n in range(pieces):
                    peer.describe(peer.put + n, length, NEXT if n < pieces - 1 else 0)
                peer.put = (peer.put + pieces) & 0xffff
                peer.tell()
                peer.drain()
        server.sees(before + 6)


def chains_of_the_whole_ring(link):
    """Each descriptor of the ring but for one goes on in the one behind it."""
    with attacked(link) as (server, peer):
        before = server.received()
        for length in (2048, 60, 1, 0):
            for _ in range(3):
                chain(peer, length, peer.slots)
                peer.drain()
        server.sees(before + 12)


def chains_longer_than_what_is_there(link):
    """The chain goes on behind what the ring is said to hold: the server reads round and round, chain by chain, until it meets the
    head, which it jumps over."""
    with attacked(link) as (server, peer):
        for length in (60, 1, 0):
            for count in (1, 32, peer.slots - 1):
                before = server.received()
                chain(peer, length, count)
                time.sleep(0.02)
                peer.settle()
                server.sees(before + 2)


def chain(peer, length, count):
    """One of all of the ring's descriptors, of which so many are said to be there."""
    for slot in range(peer.slots):
        peer.describe(peer.put + slot, length, NEXT if slot < peer.slots - 1 else 0)
    peer.put = (peer.put + count) & 0xffff
    peer.tell()


def descriptors_larger_than_a_buffer(link):
    """Whose bytes are all in the region."""
    with attacked(link) as (server, peer):
        before, count = server.received(), 0
        for length in (2049, 2050, 4096, 9000, 32768, 65534, 65535, 65536, 1 << 31, (1 << 32) - 1):
            for flags in (0, NEXT):
                for data in (bytes(60), ethernet(0x800, ipv4(6, tcp()), server.mac)):
                    peer.write(data)
                    peer.describe(peer.put - 1, length, flags)
                    peer.write(data)
                    peer.tell()
                    peer.drain()
                    count += 1
        server.sees(before + count)


# -- rings


def garbage(rng, mac):
    """Random bytes, half of them behind a header that gets them somewhere."""
    data = rng.randbytes(rng.choice((rng.randrange(100), rng.randrange(2048))))
    kind = rng.randrange(4)
    if kind < 2:
        return data
    protocol = rng.choice((0x800, 0x806, 0x86dd, 0x8100))
    if kind == 3 and protocol in (0x800, 0x86dd):
        upper = rng.choice((0, 1, 2, 6, 17, 44, 58, 60, 255))
        data = ipv4(upper, data[:1400]) if protocol == 0x800 else ipv6(upper, data[:1400])
    return ethernet(protocol, data, mac, 0)[:2048]


def rings_full_of_garbage(link):
    rng = random.Random(SEED)
    with attacked(link) as (server, peer):
        before, count = server.received(), 0
        for _ in range(8):
            for _ in range(peer.slots):
                peer.write(garbage(rng, server.mac))
                count += 1
            peer.tell()
            peer.drain()
        server.sees(before + count)


def counters_that_jump(link):
    rng = random.Random(SEED)
    with attacked(link) as (server, peer):
        before = server.received()
        for jump in (1, peer.slots, peer.slots + 1, 0x7fff, 0x8000, 0xffff, -1, -peer.slots):
            peer.settle()
            peer.set_head(peer.head() + jump)
            time.sleep(0.005)
        peer.settle()
        server.sees(before + 9)
        for _ in range(500):
            rng.choice((peer.set_head, peer.set_tail))(rng.randrange(1 << 16))
            time.sleep(0.0002)
        peer.settle()
    with attacked(link) as (server, peer):  # those of the other ring, while it answers
        for _ in range(500):
            if peer.room() > 1:
                peer.send(arp_request())
            rng.choice((peer.set_head, peer.set_tail))(rng.randrange(1 << 16), TO_US)
            time.sleep(0.0002)
        peer.drain()
        peer.seen = peer.tail(TO_US)
        peer.set_head(peer.seen + peer.slots, TO_US)


def no_room_for_answers(link):
    """The server has no buffers to answer into, then empty ones, then good ones."""
    with attacked(link) as (server, peer):
        before = server.received()
        peer.set_head(peer.tail(TO_US), TO_US)
        peer.send(*[arp_request()] * 3000)
        peer.drain()
        for slot in range(peer.slots):
            peer.describe(slot, 0, direction=TO_US)
        peer.set_head(peer.tail(TO_US) + peer.slots, TO_US)
        peer.send(*[arp_request()] * 1000)
        server.sees(before + 4000)
        peer.seen = peer.tail(TO_US)
        for slot in range(peer.slots):
            peer.describe(slot, peer.buffer, direction=TO_US)
        peer.set_head(peer.seen + peer.slots, TO_US)


def small_and_large_rings(link):
    """Of two descriptors, and of as many as there may be."""
    with attacked(link) as (server, peer):
        peer.close()
        for log2 in (1, 5, 14):
            with server.peer(log2=log2) as other:
                for _ in range(3):
                    server.answers(other)
                other.send(*(ethernet(0x800, ipv4(6, tcp()), server.mac) for _ in range(300)))
                other.drain()
                server.answers(other)


def peers_that_vanish(link):
    """In the middle of a burst, 20 of them, and the next one is served."""
    rng = random.Random(SEED)
    with attacked(link) as (server, peer):
        before = server.received()
        peer.close()
        for n in range(20):
            with server.peer() as victim:
                server.answers(victim)
                while victim.room() > 2:
                    victim.write(garbage(rng, server.mac)[:200] if n % 2 else ethernet(0x800, ipv4(6, tcp()), server.mac))
                victim.tell()
                if n % 3 == 0:
                    victim.say(memif.disconnect())
        server.sees(before + 20)


# -- the socket


def quietly(peer, *said):
    """Says all of it, and hears what comes back until nothing does, or the end."""
    peer.say(*said)
    peer.socket.settimeout(0.03)
    with contextlib.suppress(Refused, OSError):
        while True:
            peer.hear()


def refused(server, why, *said, steps=1):
    """Said after so many steps of the handshake it ends the connection, for this reason."""
    with Memif(server.path) as peer:
        peer.shake_hands(steps)
        peer.say(*said)
        try:
            heard = peer.hear()
        except Refused as reason:
            assert why in str(reason), f"{reason}, not {why}"
        else:
            raise AssertionError(f"{said[0][:16]} is answered by {heard}")


@contextlib.contextmanager
def refusing(link):
    """A server, to which nobody is connected."""
    with attacked(link) as (server, peer):
        peer.close()
        yield server


def ends_in_each_state(link):
    """The peer goes after each step of the handshake, with a word or without one."""
    with refusing(link) as server:
        for steps in range(1, 7):
            for word in (None, memif.disconnect(), b""):
                with Memif(server.path) as peer:
                    try:
                        peer.shake_hands(steps)
                    except Refused as reason:
                        assert "lready" in str(reason), reason
                    if word is not None:
                        peer.say(word)
            server.answers_anyone()


def says_and_goes(link):
    """The handshake is said without waiting for an answer, and then the peer is gone."""
    with refusing(link) as server:
        for steps in range(1, 7):
            with Memif(server.path) as peer:
                peer.expect(HELLO)
                for n, (words, files, _) in enumerate(peer.steps()):
                    if words and n < steps:
                        peer.say(words, *files)
        server.answers_anyone()


def nonsense_on_the_socket(link):
    """Messages of the wrong length, of random bytes and of types that there are not, in each state."""
    rng = random.Random(SEED)
    with refusing(link) as server:
        for steps in range(1, 7):
            for words in (b"x", rng.randbytes(64), bytes(127), bytes(129), rng.randbytes(4000), bytes(128), b"\xff" * 128,
                          struct.pack("<H", 9) + rng.randbytes(126)):
                with Memif(server.path) as peer:
                    with contextlib.suppress(Refused):
                        peer.shake_hands(steps)
                    quietly(peer, words)
            server.answers_anyone()


def out_of_turn(link):
    """Good messages in states that they are not for."""
    with refusing(link) as server:
        for steps in (1, 2, 3, 4, 5, 6):
            for words in (memif.message(ACK), memif.init(), memif.connect(), memif.message(memif.CONNECTED)):
                with Memif(server.path) as peer:
                    with contextlib.suppress(Refused):
                        peer.shake_hands(steps)
                    quietly(peer, words)
            server.answers_anyone()


def wrong_words(link):
    """What is refused, and why."""
    with refusing(link) as server, tempfile.TemporaryFile() as file:
        refused(server, "version", memif.init(version=0x100))
        refused(server, "version", memif.init(version=0xffff))
        refused(server, "ID not found", memif.init(interface=7))
        refused(server, "ethernet", memif.init(mode=1))
        refused(server, "Unexpected", memif.add_region(4096))
        refused(server, "fd", memif.add_region(4096), steps=2)
        refused(server, "region index", memif.add_region(4096, index=1), file.fileno(), steps=2)
        refused(server, "region index", memif.add_region(4096, index=65535), file.fileno(), steps=2)
        refused(server, "fd", memif.add_ring(TO_SERVER, 0, 10), steps=3)
        for direction in (TO_SERVER, TO_US):
            refused(server, "ring index", memif.add_ring(direction, 0, 10, index=1), file.fileno(), steps=3)
            refused(server, "ring index", memif.add_ring(direction, 0, 10, index=65535), file.fileno(), steps=3)
        with server.peer() as first:  # there is one
            refused(server, "lready", memif.init())
            server.answers(first)


def regions_that_cannot_be(link):
    """Files that can't be mapped, sizes that are none, and rings without the cookie, or of a region that is not there."""
    with refusing(link) as server:
        for case in ("cookie", "no region", "event", "pipe", "read only", "empty", "endless"):
            with Memif(server.path) as peer:
                for n, (words, files, answer) in enumerate(peer.steps()):
                    if n == 2:
                        files, words = odd_region(peer, case, files, words)
                    if n in (3, 4) and case == "no region":
                        words = memif.add_ring(n - 3, peer.rings[n - 3], peer.log2, region=9)
                    if n == 5:
                        break
                    if words:
                        peer.say(words, *files)
                    peer.expect(answer)
                quietly(peer, memif.connect())
                server.lives()
            server.answers_anyone()


def odd_region(peer, case, files, words):
    if case == "cookie":
        for ring in peer.rings:
            struct.pack_into("<I", peer.memory, ring, 1)
    if case == "event":
        files = (peer.bell(),)
    if case == "pipe":
        ends = os.pipe()
        peer.files += ends
        files = ends[:1]
    if case == "read only":
        peer.files.append(os.open(f"/proc/self/fd/{files[0]}", os.O_RDONLY))
        files = (peer.files[-1],)
    if case in ("empty", "endless"):
        words = memif.add_region(0 if case == "empty" else 1 << 62)
    return files, words


def tests():
    for function in (lengths_0_to_60, lengths_that_lie, options_that_lie, around_a_buffer, larger_than_a_buffer, chains_of_nothing,
                     chains_of_the_whole_ring, chains_longer_than_what_is_there, descriptors_larger_than_a_buffer,
                     rings_full_of_garbage, counters_that_jump, no_room_for_answers, small_and_large_rings, peers_that_vanish,
                     ends_in_each_state, says_and_goes, nonsense_on_the_socket, out_of_turn, wrong_words, regions_that_cannot_be):
        yield "memif copy", {}, function


if __name__ == "__main__":
    sys.exit(interop.report("memif peer", tests(), missing=interop.NO_DPDK, word="".join(sys.argv[1:2]), seconds=TEST_S,
                            place=dpdk.Link))
