#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples, run as an engineer would run them: over the loopback device, against plain sockets.

usage: examples_test.py [DIRECTORY]     where the examples were built (default: examples beside $DEMI, else
                                        build/examples of the source tree)

Prints TAP. Nothing waits for longer than WAIT_S; the whole test ends after TEST_S.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.dirname(os.environ["DEMI"]) if "DEMI" in os.environ else os.path.join(HERE, "../../build")
EXAMPLES = sys.argv[1] if len(sys.argv) > 1 else os.path.join(BUILD, "examples")
WAIT_S = 5
TEST_S = 60
CHAT_PLACES = 64  # CLIENTS_MAX in chat.c

tests = []


def test(function):
    tests.append(function)
    return function


class Skip(Exception):
    pass


def command(name, *arguments):
    return [os.path.join(EXAMPLES, name), *map(str, arguments)]


def run(name, *arguments):
    return subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=2 * WAIT_S)


def free_port(kind=socket.SOCK_STREAM, address="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(name, *arguments):
    """Runs a server. That it is there still when the test is over is part of the test."""
    process = subprocess.Popen(command(name, *arguments), stderr=subprocess.PIPE, text=True)
    try:
        yield process
        status = process.poll()
    finally:
        process.kill()
        complaints = process.communicate()[1]
        for line in complaints.splitlines():
            print(f"# {line}")
    assert status is None, f"{name} ended with status {status}"
    assert not re.search("runtime error|ERROR", complaints), f"{name}: a sanitizer complains"


def connect(port, address="127.0.0.1"):
    """Connects as soon as the server listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            client = socket.create_connection((address, port), timeout=WAIT_S)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return client
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.005)


def receive(client, size):
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, f"end of stream after {len(data)} of {size} bytes"
        data += piece
    return data


def receive_all(client):
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def silent(client, seconds=0.05):
    client.settimeout(seconds)
    try:
        return client.recv(1) == b"never"
    except TimeoutError:
        return True
    finally:
        client.settimeout(WAIT_S)


def echoes(client, data):
    client.sendall(data)
    return receive(client, len(data)) == data


def pattern(size):
    return bytes(i * 7 % 251 for i in range(size))


@contextlib.contextmanager
def echo_server(address="127.0.0.1"):
    port = free_port(address=address)
    with server("echo_server", address, port):
        yield port


# -- tcp_proxy


@contextlib.contextmanager
def proxied_echo():
    port = free_port()
    with echo_server() as behind, server("tcp_proxy", "127.0.0.1", port, "127.0.0.1", behind):
        yield port


@test
def tcp_proxy_carries_both_ways():
    with proxied_echo() as port, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(20)]
        for turn in range(3):
            for i, client in enumerate(clients):
                client.sendall(b"turn %d of client %d" % (turn, i))
            for i, client in enumerate(clients):
                expected = b"turn %d of client %d" % (turn, i)
                assert receive(client, len(expected)) == expected
        data = pattern(3_000_000)
        sender = threading.Thread(target=clients[0].sendall, args=(data,))
        sender.start()
        assert receive(clients[0], len(data)) == data
        sender.join()


@test
def tcp_proxy_passes_ends_on():
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as behind, server("tcp_proxy", "127.0.0.1", port, "127.0.0.1", behind.getsockname()[1]):
        behind.settimeout(WAIT_S)
        with connect(port) as client, behind.accept()[0] as far:
            far.settimeout(WAIT_S)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert receive_all(far) == b"question"
            far.sendall(b"answer after the end")
            far.close()
            assert receive_all(client) == b"answer after the end"
        for _ in range(200):  # descriptors come back
            with connect(port) as client, behind.accept()[0] as far:
                client.close()
                far.settimeout(WAIT_S)
                assert far.recv(1) == b""


@test
def tcp_proxy_without_a_server():
    port = free_port()
    with server("tcp_proxy", "127.0.0.1", port, "127.0.0.1", free_port()) as process:
        for _ in range(3):
            with connect(port) as client:
                assert client.recv(1) == b""
        assert process.poll() is None
    assert run("tcp_proxy", "127.0.0.1", "1").returncode == 2
    assert run("tcp_proxy", "127.0.0.1", "1", "localhost", "1").returncode == 2


# -- echo_server


@test
def echo_server_serves_many_clients():
    with echo_server() as port, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(50)]
        for turn in range(3):
            for i, client in enumerate(clients):
                client.sendall(b"turn %d of client %d" % (turn, i))
            for i, client in reversed(list(enumerate(clients))):
                expected = b"turn %d of client %d" % (turn, i)
                assert receive(client, len(expected)) == expected
        for client in clients[::2]:
            client.close()
        for client in clients[1::2]:
            assert echoes(client, b"still there")


@test
def echo_server_echoes_after_a_half_close():
    data = pattern(100000)
    with echo_server() as port, connect(port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == data


@test
def echo_server_takes_a_byte_at_a_time():
    data = pattern(200)
    with echo_server() as port, connect(port) as client:
        for i in range(len(data)):
            client.sendall(data[i:i + 1])
        assert receive(client, len(data)) == data


@test
def echo_server_echoes_megabytes():
    data = pattern(8 << 20)
    with echo_server() as port, connect(port) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()


@test
def echo_server_survives_a_reset():
    with echo_server() as port, connect(port) as other:
        for _ in range(10):
            client = connect(port)
            client.sendall(b"x" * 10000)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert echoes(other, b"undisturbed")


@test
def echo_server_is_not_held_up_by_a_client_that_never_reads():
    with echo_server() as port, connect(port) as deaf, connect(port) as other:
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.send(b"x" * 65536)
        for _ in range(10):
            assert echoes(other, b"undisturbed")


@test
def echo_server_serves_ipv6():
    try:
        port = free_port(address="::1")
    except OSError as error:
        raise Skip(f"no IPv6 here: {error.strerror}") from error
    with server("echo_server", "::1", port), connect(port, "::1") as client:
        assert echoes(client, b"hello")


@test
def echo_server_names_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("echo_server", "127.0.0.1", taken.getsockname()[1])
    assert result.returncode == 1, result
    assert "Address already in use" in result.stderr, result


# -- echo_log


def records(path):
    """What is in a log that no process has: as docs and storage/format.h say, in a file's first segment."""
    with open(path, "rb") as file:
        data = file.read()
    at = 131072 + 4096  # behind the superblocks and the segment's header
    found = []
    while at + 48 <= len(data):
        magic, size, begin = struct.unpack_from("<I", data, at)[0], *struct.unpack_from("<I8xI", data, at + 28)
        if magic == 0x31636572:
            found.append(data[at + begin:at + begin + size])
            at += (begin + size + 7) // 8 * 8
        elif at % 4096:
            at += 4096 - at % 4096  # the batch ends: the next one begins at a block
        else:
            break
    return found


@contextlib.contextmanager
def echo_log(path):
    port = free_port()
    with server("echo_log", "127.0.0.1", port, path):
        yield port


@test
def echo_log_has_on_stable_media_what_it_answered():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "echo.log")
        expected = []
        for life in range(2):  # the server is killed each time
            with echo_log(path) as port, contextlib.ExitStack() as stack:
                clients = [stack.enter_context(connect(port)) for _ in range(20)]
                for turn in range(3):
                    for i, client in enumerate(clients):
                        client.sendall(b"life %d, turn %d of client %d" % (life, turn, i))
                        expected.append(b"life %d, turn %d of client %d" % (life, turn, i))
                    for i, client in reversed(list(enumerate(clients))):
                        message = b"life %d, turn %d of client %d" % (life, turn, i)
                        assert receive(client, len(message)) == message
                for client in clients[:10]:
                    client.close()
                assert echoes(clients[10], pattern(100000))
        logged = records(path)
        assert sorted(line for line in logged if line.startswith(b"life")) == sorted(expected), len(logged)
        rest = b"".join(line for line in logged if not line.startswith(b"life"))
        assert rest == 2 * pattern(100000), len(rest)


@test
def echo_log_names_what_is_no_log():
    with tempfile.NamedTemporaryFile() as file:
        file.write(pattern(1 << 20))
        file.flush()
        result = run("echo_log", "127.0.0.1", free_port(), file.name)
    assert result.returncode == 1 and file.name in result.stderr, result


# -- http_server, http_get, redis_client


@test
def http_server_serves_http_get():
    port = free_port()
    with tempfile.NamedTemporaryFile() as file:
        file.write(pattern(300000))
        file.flush()
        with server("http_server", "127.0.0.1", port, file.name):
            connect(port).close()
            got = subprocess.run(command("http_get", "127.0.0.1", port, "/", 3), capture_output=True, timeout=2 * WAIT_S)
            assert (got.returncode, got.stdout) == (0, 3 * pattern(300000)), got.stderr
            with connect(port) as client:  # two requests in pieces on one connection, and what it does not know
                client.sendall(b"GET / HTTP/1.1\r\n\r\nGET / HT")
                head = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\nContent-Type: application/octet-stream\r\n\r\n"
                assert receive(client, len(head) + 300000) == head + pattern(300000)
                client.sendall(b"TP/1.1\r\n\r\n")
                assert receive(client, len(head) + 300000) == head + pattern(300000)
                client.sendall(b"POST / HTTP/1.1\r\n\r\n")
                assert receive_all(client).startswith(b"HTTP/1.1 501 ")
            with connect(port) as client:
                client.sendall(b"GET /" + b"x" * 10000)
                with contextlib.suppress(ConnectionResetError):
                    assert receive_all(client).startswith(b"HTTP/1.1 431 ")


@test
def http_get_refuses_a_short_body():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        process = subprocess.Popen(command("http_get", "127.0.0.1", listener.getsockname()[1], "/x"), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        with listener.accept()[0] as client:
            client.settimeout(WAIT_S)
            assert receive(client, 12) == b"GET /x HTTP/"
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
            client.shutdown(socket.SHUT_WR)
            out, complaint = process.communicate(timeout=WAIT_S)
        assert process.returncode == 1 and out == "short" and "5 bytes" in complaint, complaint


@test
def redis_client_sets_and_gets():
    if not shutil.which("redis-server"):
        raise Skip("redis-server is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        redis = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", directory, "--save", "",
                                  "--daemonize", "no"], stdout=subprocess.DEVNULL)
        try:
            connect(port).close()
            for count, size in ((250, 64), (3, 1 << 20), (1, 0)):
                done = run("redis_client", "127.0.0.1", port, count, size)
                assert done.returncode == 0, done.stderr
                assert done.stdout == f"{count} keys of {size} bytes set, read back and compared\n", done.stdout
        finally:
            redis.terminate()
            redis.wait(WAIT_S)


# -- echo_client


@test
def echo_client_measures_the_echo_server():
    with echo_server() as port:
        connect(port).close()
        for size, rounds in ((64, 2000), (1, 100), (65536, 50), (4 << 20, 3)):
            result = run("echo_client", "127.0.0.1", port, size, rounds)
            assert result.returncode == 0, result
            assert re.fullmatch(rf"{rounds} round trips of {size} bytes, [0-9.]+ us each\n", result.stdout), result


@test
def echo_client_says_that_nobody_listens():
    result = run("echo_client", "127.0.0.1", free_port())
    assert result.returncode == 1, result
    assert "Connection refused" in result.stderr, result


@test
def echo_client_notices_a_wrong_echo():
    with socket.create_server(("127.0.0.1", 0)) as liar:
        liar.settimeout(WAIT_S)
        client = subprocess.Popen(command("echo_client", "127.0.0.1", liar.getsockname()[1]),
                                  stderr=subprocess.PIPE, text=True)
        with liar.accept()[0] as connection:
            connection.settimeout(WAIT_S)
            receive(connection, 64)
            connection.sendall(b"no echo")
            _, message = client.communicate(timeout=WAIT_S)
    assert client.returncode == 1 and "not what was sent" in message, message


# -- udp_echo


@test
def udp_client_against_udp_server():
    port = free_port(socket.SOCK_DGRAM)
    with server("udp_echo", "server", "127.0.0.1", port):
        udp_ask(port, b"are you there?")
        result = run("udp_echo", "client", "127.0.0.1", port, 500)
    assert result.returncode == 0 and result.stdout == "500 datagrams went and came back\n", result


def udp_ask(port, datagram):
    """Sends until the echo comes: the server may not be there yet."""
    deadline = time.monotonic() + WAIT_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(0.2)
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                client.send(datagram)
                return client.recv(65536)
            time.sleep(0.005)
    raise AssertionError("no echo")


@test
def udp_server_echoes_every_size():
    port = free_port(socket.SOCK_DGRAM)
    with server("udp_echo", "server", "127.0.0.1", port):
        for size in (1, 0, 64, 1472, 9000, 65507):
            assert udp_ask(port, pattern(size)) == pattern(size), size


@test
def udp_client_sends_again():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lossy:
        lossy.bind(("127.0.0.1", 0))
        lossy.settimeout(WAIT_S)
        client = subprocess.Popen(command("udp_echo", "client", "127.0.0.1", lossy.getsockname()[1], 3),
                                  stdout=subprocess.PIPE, text=True)
        received = 0
        while client.poll() is None and received < 6:
            datagram, sender = lossy.recvfrom(2048)
            received += 1
            if received % 2 == 0:
                lossy.sendto(datagram, sender)
        output, _ = client.communicate(timeout=WAIT_S)
    assert received == 6 and output == "3 datagrams went and came back\n", (received, output)


@test
def udp_client_says_that_nobody_listens():
    result = run("udp_echo", "client", "127.0.0.1", free_port(socket.SOCK_DGRAM))
    assert result.returncode == 1 and "Connection refused" in result.stderr, result


# -- chat


@contextlib.contextmanager
def chat(count):
    """A chat room in which so many clients are known to be."""
    port = free_port()
    with server("chat", "127.0.0.1", port), contextlib.ExitStack() as stack:
        clients = []
        for i in range(count):
            clients.append(stack.enter_context(connect(port)))
            if i > 0:
                enter(clients[i], clients[:i], b"client %d is here\n" % i)
        yield port, clients


def enter(newcomer, others, greeting):
    """A line that the others have got proves that the newcomer is served."""
    newcomer.sendall(greeting)
    for other in others:
        assert receive(other, len(greeting)) == greeting


@test
def chat_sends_a_line_to_all_others():
    with chat(3) as (_, clients):
        for i, speaker in enumerate(clients):
            line = b"client %d speaks\n" % i
            speaker.sendall(line)
            for other in clients:
                if other is not speaker:
                    assert receive(other, len(line)) == line
            assert silent(speaker)


@test
def chat_keeps_lines_together():
    with chat(3) as (_, (a, b, c)):
        for i in range(10):
            a.sendall(b"a"[:1])
            b.sendall(b"b"[:1])
            time.sleep(0.002)
        assert silent(c)
        a.sendall(b"!\n")
        assert receive(c, 12) == b"aaaaaaaaaa!\n"
        b.sendall(b"!\n")
        assert receive(c, 12) == b"bbbbbbbbbb!\n"
        a.sendall(b"one\ntwo\nthree\n")
        assert receive(c, 14) == b"one\ntwo\nthree\n"


@test
def chat_cuts_long_lines_and_loses_nothing():
    line = b"0123456789" * 300 + b"\n"
    with chat(2) as (_, (a, b)):
        for _ in range(20):
            a.sendall(line)
        assert receive(b, 20 * len(line)) == 20 * line


@test
def chat_goes_on_when_clients_leave():
    with chat(3) as (port, (a, b, c)):
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        b.close()
        for _ in range(20):
            a.sendall(b"anybody?\n")
            assert receive(c, 9) == b"anybody?\n"
        with connect(port) as d:
            enter(d, (a, c), b"d is here\n")
            c.sendall(b"welcome\n")
            assert receive(a, 8) == b"welcome\n"
            assert receive(d, 8) == b"welcome\n"


@test
def chat_gives_places_to_those_who_wait():
    with chat(1) as (port, (first,)), contextlib.ExitStack() as stack:
        for i in range(3 * CHAT_PLACES):
            with connect(port) as passer_by:
                enter(passer_by, (first,), b"%d was here\n" % i)
        crowd = [stack.enter_context(connect(port)) for _ in range(CHAT_PLACES)]
        first.close()  # the place of the last of the crowd
        crowd[-1].sendall(b"at last\n")
        assert receive(crowd[0], 8) == b"at last\n"


# -- all


@test
def over_catloop():
    """Servers and clients of ours in two processes, over shared memory: nothing goes by the kernel."""
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile() as file:
        file.write(pattern(300000))
        file.flush()
        environment = {**os.environ, "LIBOS": "catloop", "DEMI_SHM_DIRECTORY": directory}
        with swapped(environment):
            with server("echo_server", "127.0.0.1", 7001):
                found(directory, "tcp4-7001")
                for size, rounds in ((64, 2000), (1, 100), (65536, 50), (4 << 20, 3)):
                    result = run("echo_client", "127.0.0.1", 7001, size, rounds)
                    assert result.returncode == 0 and result.stdout.startswith(f"{rounds} round trips of {size} bytes"), result
                result = run("echo_server", "127.0.0.1", 7001)
                assert result.returncode == 1 and "Address already in use" in result.stderr, result
            with server("http_server", "::1", 7001, file.name):  # the port of one that was killed, another family
                found(directory, "tcp6-7001")
                got = subprocess.run(command("http_get", "::1", 7001, "/", 3), capture_output=True, timeout=2 * WAIT_S)
                assert (got.returncode, got.stdout) == (0, 3 * pattern(300000)), got.stderr
            with server("udp_echo", "server", "127.0.0.1", 7001):
                found(directory, "udp4-7001")
                result = run("udp_echo", "client", "127.0.0.1", 7001, 500)
                assert result.returncode == 0 and result.stdout == "500 datagrams went and came back\n", result
            for name, *arguments in (("echo_client",), ("udp_echo", "client")):
                result = run(name, *arguments, "127.0.0.1", 7001)
                assert result.returncode == 1 and "Connection refused" in result.stderr, result


@contextlib.contextmanager
def swapped(environment):
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def found(directory, name):
    deadline = time.monotonic() + WAIT_S
    while not os.path.exists(os.path.join(directory, name + ".sock")):
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.005)


@test
def usage_is_told():
    for name in ("echo_server", "echo_client", "echo_log", "udp_echo", "chat"):
        result = run(name)
        assert result.returncode == 2 and f"usage: {name} " in result.stderr, result


def give_up(*_):
    print(f"Bail out! not done after {TEST_S} s", flush=True)
    os._exit(1)


def outcome(function):
    try:
        function()
    except Skip as reason:
        return "ok", f" # SKIP {reason}"
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        lines = f"{type(error).__name__} at line {frame.tb_lineno}: {error}".splitlines()
        return "not ok", "".join(f"\n# {line}" for line in lines)
    return "ok", ""


def main():
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_S)
    print(f"1..{len(tests)}")
    failed = 0
    for number, function in enumerate(tests, 1):
        word, detail = outcome(function)
        failed += word != "ok"
        print(f"{word} {number} - {function.__name__}{detail}", flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
