# SPDX-License-Identifier: MIT
"""The client's end of a memif, by hand: the one that makes the socket's requests and owns the shared memory, with every field of it
open to be written wrong. Nothing here waits for longer than PATIENCE_S.

A region of shared memory holds two rings, from us to the server and back, and a buffer for each of their descriptors. In our ring
head is how many frames we have put in, tail how many the server has taken out. In the other one head is how many buffers we have
given, tail how many the server has filled.
"""

import contextlib
import mmap
import os
import socket
import struct
import time

PATIENCE_S = 4
COOKIE = 0x3E31F20
VERSION = 0x200
MESSAGE = 128  # bytes of each on the socket
ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT = range(1, 9)
TO_SERVER, TO_US = 0, 1
NEXT = 1  # flag of a descriptor: the frame goes on in the one behind it
RING_HEADER, DESCRIPTOR = 128, 16
HEAD, TAIL = 6, 64  # where they are in a ring


class Refused(Exception):
    """The server ended the connection, or answered something else."""


def message(kind, *parts):
    """One for the socket, filled up."""
    return (struct.pack("<H", kind) + b"".join(parts)).ljust(MESSAGE, b"\0")


def init(version=VERSION, interface=0, mode=0):
    return message(INIT, struct.pack("<HIB24s32s", version, interface, mode, b"", b"peer"))


def add_region(size, index=0):
    return message(ADD_REGION, struct.pack("<HQ", index, size))


def add_ring(direction, offset, log2, index=0, region=0):
    return message(ADD_RING, struct.pack("<HHHIBH", 1 - direction, index, region, offset, log2, 0))


def connect():
    return message(CONNECT, struct.pack("32s", b"peer0"))


def disconnect():
    return message(DISCONNECT, struct.pack("<I96s", 0, b"enough"))


def until(done, what):
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what}"
        time.sleep(0.0005)


class Memif:
    """A peer. What is refused raises Refused."""

    def __init__(self, path, log2=10, buffer=2048):
        self.log2, self.slots, self.buffer = log2, 1 << log2, buffer
        ring = RING_HEADER + DESCRIPTOR * self.slots
        self.rings = 0, ring
        self.buffers = -(-2 * ring // 4096) * 4096
        self.size = self.buffers + 2 * self.slots * buffer
        self.given = self.seen = self.put = 0
        self.files = []
        self.memory = self.words = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            until(lambda: self.reaches(str(path)), "room in the socket's queue")
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(PATIENCE_S)

    def reaches(self, path):
        """The server accepts one peer every few milliseconds, and lets one wait."""
        self.socket.setblocking(False)
        try:
            self.socket.connect(path)
        except BlockingIOError:
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Without a word."""
        self.socket.close()
        if self.memory:
            self.words.release()
            self.memory.close()
            self.memory = None
        while self.files:
            os.close(self.files.pop())

    # -- the handshake

    def hear(self):
        """The type of the next message."""
        try:
            said = self.socket.recv(MESSAGE)
        except ConnectionError:
            said = b""
        if not said:
            raise Refused("the end of the connection")
        kind = struct.unpack_from("<H", said)[0]
        if kind == DISCONNECT:
            raise Refused(said[6:102].rstrip(b"\0").decode(errors="replace"))
        return kind

    def expect(self, kind):
        heard = self.hear()
        if heard != kind:
            raise Refused(f"message {heard}, not {kind}")

    def say(self, words, *files):
        with contextlib.suppress(ConnectionError):
            if files:
                socket.send_fds(self.socket, [words], files)
            else:
                self.socket.send(words)

    def memory_file(self, size=None):
        """One of as many bytes as the region has, mapped here."""
        file = os.memfd_create("peer", os.MFD_CLOEXEC)
        self.files.append(file)
        os.ftruncate(file, self.size if size is None else size)
        if size is None:
            self.memory = mmap.mmap(file, self.size)
            self.words = memoryview(self.memory).cast("H")
            for ring in self.rings:
                struct.pack_into("<I", self.memory, ring, COOKIE)
            for direction in (TO_SERVER, TO_US):
                for slot in range(self.slots):
                    self.describe(slot, self.buffer, direction=direction)
        return file

    def bell(self):
        """A file for interrupts, which nobody uses."""
        self.files.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        return self.files[-1]

    def steps(self):
        """The handshake: each step is what we say, its files, and what the server says then."""
        yield None, (), HELLO
        yield init(), (), ACK
        yield add_region(self.size), (self.memory_file(),), ACK
        for direction in (TO_SERVER, TO_US):
            yield add_ring(direction, self.rings[direction], self.log2), (self.bell(),), ACK
        yield connect(), (), CONNECTED

    def shake_hands(self, steps=None):
        """The first so many steps, or all; then frames can be sent and received."""
        for n, (words, files, answer) in enumerate(self.steps()):
            if n == steps:
                return self
            if words:
                self.say(words, *files)
            self.expect(answer)
        self.set_head(self.slots, TO_US)
        self.given = self.slots
        return self

    # -- the rings

    def describe(self, slot, length, flags=0, direction=TO_SERVER, offset=None):
        """Writes a descriptor. offset: from the region's beginning; None: the slot's buffer."""
        slot %= self.slots
        if offset is None:
            offset = self.place(slot, direction)
        at = self.rings[direction] + RING_HEADER + DESCRIPTOR * slot
        struct.pack_into("<HHIII", self.memory, at, flags, 0, length, offset, 0)

    def place(self, slot, direction=TO_SERVER):
        """Where a slot's buffer is."""
        return self.buffers + (direction * self.slots + slot % self.slots) * self.buffer

    def head(self, direction=TO_SERVER):
        return self.words[(self.rings[direction] + HEAD) // 2]

    def tail(self, direction=TO_SERVER):
        return self.words[(self.rings[direction] + TAIL) // 2]

    def set_head(self, value, direction=TO_SERVER):
        self.words[(self.rings[direction] + HEAD) // 2] = value & 0xffff

    def set_tail(self, value, direction=TO_SERVER):
        self.words[(self.rings[direction] + TAIL) // 2] = value & 0xffff

    def room(self):
        return self.slots - ((self.put - self.tail()) & 0xffff)

    def write(self, data):
        """Puts a frame, in pieces of a buffer each, into the ring, without telling the server."""
        pieces = [data[at:at + self.buffer] for at in range(0, len(data), self.buffer)] or [b""]
        until(lambda: self.room() >= len(pieces), "room in the ring")
        for n, piece in enumerate(pieces):
            at = self.place(self.put)
            self.memory[at:at + len(piece)] = piece
            self.describe(self.put, len(piece), NEXT if n < len(pieces) - 1 else 0)
            self.put = (self.put + 1) & 0xffff

    def tell(self):
        """The server may take what was written."""
        self.set_head(self.put)

    def send(self, *frames):
        for frame in frames:
            self.write(frame)
            self.tell()

    def drain(self):
        """Until the server has taken everything."""
        until(lambda: self.tail() == self.head(), "the server takes what is in the ring")

    def settle(self):
        """The same after anything was written to the ring: what the server may still find there are empty frames."""
        for slot in range(self.slots):
            self.describe(slot, 0)
        self.put = (self.head() + 1) & 0xffff
        self.tell()
        self.drain()

    def receive(self):
        """The frames that have come, if any, whose buffers are given back."""
        frames, parts, tail = [], b"", self.tail(TO_US)
        for _ in range(min((tail - self.seen) & 0xffff, self.slots)):
            slot = self.seen % self.slots
            at = self.rings[TO_US] + RING_HEADER + DESCRIPTOR * slot
            flags, _, length, _, _ = struct.unpack_from("<HHIII", self.memory, at)
            at = self.place(slot, TO_US)
            parts += self.memory[at:at + min(length, self.buffer)]
            if not flags & NEXT:
                frames.append(parts)
                parts = b""
            self.describe(slot, self.buffer, direction=TO_US)
            self.seen = (self.seen + 1) & 0xffff
        self.seen = tail
        self.set_head(self.seen + self.slots, TO_US)
        return frames
