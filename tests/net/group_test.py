#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Groups, broadcast, virtual LANs and large frames against the kernel's stack, over veth (packet and XDP sockets) and TAP: plain sockets of the
kernel as members and senders, a bridge of the kernel that snoops and queries, and packet sockets for tagged frames.

Prints TAP. Needs root. The sites are those of interop_test.py.

usage: group_test.py [WORD]      only the tests with WORD in their names
"""

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

import interop_test
from interop_test import BUILD, KERNEL, MIB, OURS, WAIT_S, Peer, Skip, need, ports, run, stream

GROUPS = {4: "239.77.1.2", 6: "ff15::77:2"}
ANY = {4: "0.0.0.0", 6: "::"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
PREFIX_BROADCAST = "10.9.0.255"
LAN = 5
COUNT = 50
# Hundredths of a second, the least there are; a membership is forgotten when three queries were not answered.
BRIDGE_TIMES = ["mcast_query_interval", 100, "mcast_startup_query_interval", 100, "mcast_query_response_interval", 50,
                "mcast_last_member_interval", 20, "mcast_membership_interval", 350]
ROOM = 4 << 20  # bytes, for all datagrams, should the receiver not run while they come
ETH_P_ALL, ETH_P_8021Q = 3, 0x8100
SOL_PACKET, PACKET_AUXDATA = 263, 8
SO_RCVBUFFORCE = 33


class Site(interop_test.Site):
    """A link between the kernel and us, the kernel's end in a bridge if asked for."""

    def __init__(self, device, mtu=1500, bridge=None, **settings):
        super().__init__("afpacket" if device == "afxdp" else device, mtu, **settings)
        self.environment["DEMI_DEVICE"] = device
        self.bridge = bridge  # versions of IGMP and MLD that it speaks

    def __enter__(self):
        if self.environment["DEMI_DEVICE"] == "afxdp" and not (BUILD / "libdemitasse-xdp.so").exists():
            raise Skip("AF_XDP was not built")
        super().__enter__()
        if self.bridge:
            port, self.kernels = self.kernels, "brK"
            try:
                run("ip", "link", "add", "brK", "mtu", self.mtu, "type", "bridge", "mcast_snooping", 1, "mcast_querier", 1,
                    "mcast_igmp_version", self.bridge[0], "mcast_mld_version", self.bridge[1], *BRIDGE_TIMES)
            except AssertionError as error:
                super().__exit__()
                raise Skip(f"no bridge: {error}") from None
            run("ip", "addr", "flush", "dev", port)
            run("ip", "link", "set", port, "master", "brK")
            run("ip", "addr", "add", f"{KERNEL[4]}/24", "dev", "brK")
            run("ip", "addr", "add", f"{KERNEL[6]}/64", "dev", "brK", "nodad")
            run("ip", "link", "set", "brK", "up")
        return self

    def __exit__(self, *_):
        if self.bridge:
            run("ip", "link", "del", "brK")
            self.kernels = "vK" if self.device == "afpacket" else "tapK"
        super().__exit__()

    def ready(self, peer):
        """The peer is there, which may have brought the link up: the kernel sends only some time later, when it also has
        routes to groups."""
        peer.ready()
        until(self.has_routes, "the kernel sends to groups")

    def has_routes(self):
        for version in (4, 6):
            with sender(version, self) as sock:
                try:
                    sock.connect((GROUPS[version], 9))
                except OSError:
                    return False
        return True

    def group(self, *arguments):
        return self.peer(*arguments, program="interop_group")


def until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s"
        time.sleep(0.02)


def sender(version, site):
    sock = socket.socket(FAMILY[version], socket.SOCK_DGRAM)
    index = socket.if_nametoindex(site.kernels)
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), index))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    return sock


def receiver(version, port, site, group=None):
    """A socket of the kernel; of a group, or for whatever comes to the port."""
    sock = socket.socket(FAMILY[version], socket.SOCK_DGRAM)
    sock.settimeout(WAIT_S)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    sock.bind((ANY[version], port))
    index = socket.if_nametoindex(site.kernels)
    if group and version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                        struct.pack("4s4si", socket.inet_aton(group), bytes(4), index))
    elif group:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                        socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", index))
    return sock


def send_stream(sock, to, size, count=COUNT):
    for i in range(count):
        sock.sendto(stream(size + i)[i:], to)
        time.sleep(0.001)


def expect_stream(sock, size, count=COUNT):
    for i in range(count):
        data, sender_ = sock.recvfrom(65536)
        assert data == stream(size + i)[i:], f"datagram {i}: {len(data)} bytes from {sender_}"


def largest(site, version):
    return site.mtu - (48 if version == 6 else 28)


# -- multicast


def kernel_sends(site):
    """To two sockets of ours that are members and share a port, of the group's address or of any."""
    for version in (4, 6):
        for bound in (ANY[version], GROUPS[version]):
            port = next(ports)
            for size in (100, largest(site, version)):
                with site.group("member", bound, port, 2, COUNT, GROUPS[version]) as peer, sender(version, site) as sock:
                    site.ready(peer)
                    send_stream(sock, (GROUPS[version], port), size)


def ours_send(site):
    for version in (4, 6):
        for size in (100, largest(site, version)):
            port = next(ports)
            with receiver(version, port, site, GROUPS[version]) as sock, site.group("send", GROUPS[version], port, COUNT, size):
                expect_stream(sock, size)


def not_members(site):
    """What goes to another group is not for us: a datagram to all hosts, of one byte, is the first that comes."""
    for version in (4, 6):
        port = next(ports)
        with site.group("member", ANY[version], port, 1, 1, GROUPS[version]) as peer, sender(version, site) as sock:
            site.ready(peer)
            for _ in range(10):
                sock.sendto(stream(50), ("239.77.9.9" if version == 4 else "ff15::77:9", port))
            sock.sendto(b"x", ("224.0.0.1" if version == 4 else "ff02::1", port))


# -- a switch that snoops


def listed(group):
    """Does the bridge know a member of the group on the port to us?"""
    return any(f"grp {group} " in line and "port vK" in line for line in run(need("bridge"), "mdb", "show", "dev", "brK").splitlines())


def is_member(version):
    return lambda: listed(GROUPS[version])


def is_not_member(version):
    return lambda: not listed(GROUPS[version])


def snooped(site):
    """The bridge learns of our group at once, keeps it while its queries are answered, and forgets it when we leave."""
    for version in (4, 6):
        port = next(ports)
        assert not listed(GROUPS[version])
        with site.group("member", ANY[version], port, 1, COUNT + 1, GROUPS[version]) as peer, sender(version, site) as sock:
            site.ready(peer)
            until(is_member(version), "the bridge has the group")
            send_stream(sock, (GROUPS[version], port), 700)
            time.sleep(6)  # longer than a membership that is not reported again
            assert listed(GROUPS[version]), f"IPv{version}: our answers were not heard"
            sock.sendto(stream(700 + COUNT)[COUNT:], (GROUPS[version], port))
        until(is_not_member(version), "the bridge has forgotten the group")


def solicited_nodes(site):
    """A switch that snoops finds us by neighbour discovery: our solicited-node group is known to it."""
    port = next(ports)
    with site.group("member", "::", port, 1, 1) as peer, sender(6, site) as sock:
        site.ready(peer)
        until(lambda: listed("ff02::1:ff00:2"), "the bridge has our solicited-node group")
        sock.sendto(stream(10), (OURS[6], port))


# -- broadcast


def broadcast_to_us(site):
    for address in ("255.255.255.255", PREFIX_BROADCAST):
        for bound in ("0.0.0.0", address):
            port = next(ports)
            with site.group("member", bound, port, 2, COUNT) as peer, sender(4, site) as sock:
                site.ready(peer)
                sock.setsockopt(socket.SOL_SOCKET, 25, site.kernels.encode())  # SO_BINDTODEVICE: everybody is on no route
                send_stream(sock, (address, port), 300)


def broadcast_from_us(site):
    for address in ("255.255.255.255", PREFIX_BROADCAST):
        port = next(ports)
        with receiver(4, port, site) as sock, site.group("send", address, port, COUNT, 300):
            expect_stream(sock, 300)


# -- virtual LANs


def kernel_lan(site):
    """The kernel's own interface of a virtual LAN, where it has them."""
    try:
        run("ip", "link", "add", "link", site.kernels, "name", f"{site.kernels}.{LAN}", "type", "vlan", "id", LAN)
    except AssertionError:
        raise Skip("this kernel has no virtual LANs (CONFIG_VLAN_8021Q)") from None
    try:
        run("ip", "addr", "flush", "dev", site.kernels)
        run("ip", "addr", "add", f"{KERNEL[4]}/24", "dev", f"{site.kernels}.{LAN}")
        run("ip", "addr", "add", f"{KERNEL[6]}/64", "dev", f"{site.kernels}.{LAN}", "nodad")
        run("ip", "link", "set", f"{site.kernels}.{LAN}", "up")
        interop_test.bulk_both_ways(site)
        interop_test.datagrams(site)
    finally:
        run("ip", "link", "del", f"{site.kernels}.{LAN}")


def arp_request(mac, tag):
    """Who has our address, with a tag or without: the packet socket of the kernel's side sends it as it is."""
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, socket.inet_aton(KERNEL[4]), bytes(6), socket.inet_aton(OURS[4]))
    head = b"\xff" * 6 + mac
    if tag is not None:
        head += struct.pack("!HH", ETH_P_8021Q, tag)
    return head + struct.pack("!H", 0x806) + body


def answer(sock, seconds):
    """The tag of the next ARP reply; None: it has none; False: none came in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            frame, aux, _, _ = sock.recvmsg(2048, 256)
        except TimeoutError:
            continue
        kind, rest = struct.unpack("!H", frame[12:14])[0], frame[14:]
        status, tag = 0, 0
        for level, name, data in aux:
            if level == SOL_PACKET and name == PACKET_AUXDATA:
                status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data[:20])
        if kind == 0x806 and struct.unpack("!H", rest[6:8])[0] == 2:
            return tag if status & (1 << 4) else None
    return False


def tagged_frames(site):
    """Which requests are answered, and that answers have the tag: seen by a packet socket, as the kernel takes tags off."""
    on_a_lan = "DEMI_VLAN" in site.environment
    port = next(ports)
    with contextlib.ExitStack() as stack:
        peer = site.group("member", OURS[4], port, 1, 1)
        stack.callback(peer.process.communicate)
        stack.callback(peer.process.kill)
        site.ready(peer)
        sock = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        sock.bind((site.kernels, ETH_P_ALL))
        sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        for tag in (None, 0, LAN, LAN + 1, 0x6000 | LAN):
            sock.send(arp_request(sock.getsockname()[4], tag))
            if on_a_lan:
                expected = LAN if tag is not None and tag & 0xfff == LAN else False
            else:
                expected = None if tag is None or tag & 0xfff == 0 else False
            got = answer(sock, 0.5 if expected is False else WAIT_S)
            assert got == expected and (got is None) == (expected is None), f"tag {tag}: {got}, not {expected}"


def both_on_a_lan(site):
    """Two stacks of ours, one at each end of the pair: the kernel between them sees tagged frames only."""
    for version in (4, 6):
        port = next(ports)
        there = {"DEMI_INTERFACE": "vK", "DEMI_ADDRESSES": "10.9.0.7/24,fd00:9::7/64"}
        with site.peer("serve", OURS[version], port, 1, "receive", 2 * MIB, 1234) as server:
            server.ready()
            environment = {**site.environment, **there}
            done = subprocess.run([str(BUILD / "tests/interop_peer"), "call", OURS[version], str(port), "1", "send", str(2 * MIB),
                                   "100000", "1234"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=WAIT_S, check=False)
            assert done.returncode == 0, done.stdout


# -- what runs, and where


def tests():
    for device in ("afpacket", "tap"):
        for function in (kernel_sends, ours_send, not_members, broadcast_to_us, broadcast_from_us, tagged_frames):
            yield device, {}, function
        for mtu in (1280, 9216):
            for function in (kernel_sends, ours_send):
                yield device, {"mtu": mtu}, function
        for function in (interop_test.bulk_both_ways, interop_test.datagrams):
            yield device, {"mtu": 9216}, function
        for function in (tagged_frames, kernel_lan):
            yield device, {"vlan": str(LAN)}, function
    for function in (snooped, solicited_nodes, kernel_sends):
        yield "afpacket", {"bridge": (3, 2)}, function
    yield "afpacket", {"bridge": (2, 1)}, snooped
    for mtu in (1500, 9000):
        yield "afpacket", {"vlan": str(LAN), "mtu": mtu}, both_on_a_lan
    for mode in interop_test.xdp_modes():  # to all hosts and general queries: to the kernel, which shares the interface
        for function in (kernel_sends, ours_send, broadcast_to_us, broadcast_from_us):
            yield "afxdp", {"xdp_mode": mode}, function
        for function in (tagged_frames, both_on_a_lan):
            yield "afxdp", {"xdp_mode": mode, "vlan": str(LAN)}, function


if __name__ == "__main__":
    sys.exit(interop_test.report("groups", tests(), word="".join(sys.argv[1:2]), place=Site))
