#!/usr/bin/env python3
"""tests/tool/docs_test.py: what README.md and docs/ tell users to type works: the blocks of commands, the systemd units, the
capabilities. Prints TAP; each step is bounded, and nothing outside of namespaces of its own is touched.

The command is $DEMI, else build/demi.
"""
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEMI = Path(os.environ.get("DEMI") or ROOT / "build" / "demi")
BUILD = DEMI.parent
UNITS = sorted((ROOT / "docs/systemd").iterdir())
LIMIT_S = 30
NOBODY = 65534
GROUP = 60001  # for demitasse
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("DEMI_") and key not in ("LIBOS", "CONFIG_PATH")}
ENVIRONMENT["LD_LIBRARY_PATH"] = str(BUILD)
ENVIRONMENT["DEMI_PLUGIN_DIR"] = str(BUILD)

tests = []


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def check(truth, why):
    if not truth:
        raise Failure(why)


def need(*programs, root=False, plug_in=False):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    if plug_in and not (BUILD / "libdemitasse-xdp.so").exists():
        raise Skip("this build has no AF_XDP (libxdp-dev, libbpf-dev, clang)")
    if root and os.geteuid() != 0:
        raise Skip("privilege: network namespaces need root")


def run(*command, **how):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=LIMIT_S, check=False, **how)
    return done.returncode, done.stdout


# -- blocks of commands


def block_below(heading):
    """The first lines below a heading of README.md that are indented by four."""
    text = (ROOT / "README.md").read_text()
    check(f"\n## {heading}\n" in text, f"README.md has no heading '{heading}'")
    below = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"(?:^    .*\n)+", below, re.M)
    check(block, f"no commands below '{heading}'")
    return re.sub(r"^    ", "", block[0], flags=re.M)


def need_page():
    """The page's commands name build/: no other build can run them."""
    if BUILD.name != "build":
        raise Skip(f"this build is {BUILD.name}, the page's commands are those of build")
    need("ethtool", "nc", "ping", root=True)


def type_in(commands, *wanted):
    """Runs commands as root in namespaces of their own (network, mounts, processes), and looks for words in what they print."""
    with tempfile.TemporaryDirectory() as runtime:
        script = f"set -e\nmkdir -p /run/netns\nmount -t tmpfs none /run/netns\nip link set lo up\n{commands}"
        environment = {**ENVIRONMENT, "XDG_RUNTIME_DIR": runtime}
        for name in ("DEMI_PLUGIN_DIR", "LD_LIBRARY_PATH"):  # both have to be found as a user's program finds them
            environment.pop(name)
        status, out = run("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script,
                          cwd=BUILD.parent, env=environment)
    check(status == 0, f"status {status}: {out}")
    for words in wanted:
        check(words in out, f"no '{words}' in: {out}")


@test
def readme_our_own_tcp_ip():
    need_page()
    type_in(block_below("Our own TCP/IP in five commands"), "3 received", "hello, kernel", "afpacket")


@test
def readme_af_xdp():
    need_page()
    need(plug_in=True)
    type_in(block_below("Past the kernel in five commands"), "3 received", "1 received", "hello, kernel", "afxdp")


# -- the site: a veth pair in a network namespace


class Site:
    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "300"])
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net"]

    def __enter__(self):
        own = os.stat("/proc/self/ns/net").st_ino
        deadline = time.monotonic() + LIMIT_S
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == own:
            check(time.monotonic() < deadline, "no namespace")
            time.sleep(0.01)
        for command in ("ip link add eth1 type veth peer name peer", "ip link set eth1 up", "ip link set peer up",
                        "ip addr add 192.0.2.1/24 dev peer", "ethtool -K peer tx off tso off gso off"):
            status, out = run(*self.enter, *command.split())
            check(status == 0, f"{command}: {out}")
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()

    def answers(self):
        """Does 192.0.2.10 answer, in the end?"""
        return run(*self.enter, "ping", "-c", "5", "-i", "0.2", "-W", "1", "192.0.2.10")[0] == 0

    @contextlib.contextmanager
    def process(self, *command, user=NOBODY, groups=(), capabilities=(), memlock=65536, **environment):
        sets = ",".join(["-all", *[f"+{name}" for name in capabilities]])

        def prepare():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (memlock, memlock))

        process = subprocess.Popen([*self.enter, "setpriv", "--reuid", str(user), "--regid", str(user),
                                    *(["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]), "--inh-caps", sets, "--ambient-caps", sets, "--bounding-set", sets, *[str(word) for word in command]],
                                   env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, preexec_fn=prepare)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def unit(name):
    """The lines of a unit, as (key, value)."""
    lines = (ROOT / "docs/systemd" / name).read_text().splitlines()
    return [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]


def values(name, key):
    return [value for one, value in unit(name) if one == key]


def in_build(command):
    """A command of a unit, with the programs of this build."""
    words = command.split()
    return [{"demi": str(DEMI), "echo_server": str(BUILD / "examples/echo_server")}[Path(words[0]).name], *words[1:]]


# -- capabilities


def documented():
    """The capabilities of docs/af_xdp.md, without "cap_"."""
    line = re.search(r"setcap (\S+)\+ep", (ROOT / "docs/af_xdp.md").read_text())
    check(line, "docs/af_xdp.md has no setcap")
    return [name.removeprefix("cap_") for name in line[1].split(",")]


ECHO = {"LIBOS": "catpowder", "DEMI_DEVICE": "afxdp", "DEMI_INTERFACE": "eth1", "DEMI_ADDRESSES": "192.0.2.10/24"}


@test
def the_capabilities_are_enough_and_none_is_too_many():
    need("setpriv", "ping", "ethtool", root=True, plug_in=True)
    names = documented()
    echo = [BUILD / "examples/echo_server", "192.0.2.10", "7000"]
    with Site() as site:
        with site.process(*echo, capabilities=names, **ECHO):
            check(site.answers(), f"no answer with {names}")
        for name in names:
            with site.process(*echo, capabilities=[other for other in names if other != name], **ECHO) as process:
                status = process.wait(LIMIT_S)
                check(status != 0, f"it starts without {name}")
                words = process.stdout.read()
                check("CAP_" in words or "memory" in words, f"without {name} it says: {words}")


# -- code


@test
def the_code_of_the_page_compiles():
    need("cc")
    blocks = re.findall(r"^```c\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M)
    check(len(blocks) >= 2, f"{len(blocks)} blocks of code")
    for block in blocks:
        with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
            file.write(block)
            file.flush()
            status, out = run("cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT / 'include'}", file.name)
            check(status == 0, out)


# -- systemd


@test
def systemd_accepts_the_units():
    need("systemd-analyze")
    with tempfile.TemporaryDirectory() as scratch:
        copies = []
        for path in UNITS:
            text = path.read_text()
            for command in re.findall(r"^ExecStart=(.*)$", text, re.M):
                text = text.replace(command, " ".join(in_build(command)))
            copies.append(Path(scratch) / path.name)
            copies[-1].write_text(text)
        status, out = run("systemd-analyze", "verify", "--man=no", *copies, env={**ENVIRONMENT, "SYSTEMD_LOG_LEVEL": "warning"})
    wrong = [line for line in out.splitlines() if any(path.name in line for path in UNITS)]
    check(status == 0 and not wrong, out)


@test
def the_units_are_of_one_mind():
    helper, echo = "demi-xdp-helper.service", "demitasse-echo.service"
    where = values("demi-xdp-helper.socket", "ListenSequentialPacket")
    environment = " ".join(values(echo, "Environment")).split()
    check([f"DEMI_XDP_HELPER={where[0]}"] == [word for word in environment if word.startswith("DEMI_XDP_HELPER=")], str(environment))
    check(values(helper, "AmbientCapabilities") == values(helper, "CapabilityBoundingSet"), "capabilities of the helper")
    check([name.lower() for name in values(helper, "AmbientCapabilities")[0].split()] == [f"cap_{name}" for name in documented()],
          "the helper's capabilities are those of docs/af_xdp.md")
    check(values(echo, "CapabilityBoundingSet") == [""], "the application has none")
    check(values("demi-xdp-helper.socket", "SocketGroup") == values(echo, "SupplementaryGroups"), "group of the socket")


@test
def the_units_do_what_they_say():
    need("systemd-socket-activate", "setpriv", "ping", "ethtool", root=True, plug_in=True)
    with Site() as site, tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o777)
        path = f"{scratch}/xdp.sock"
        capabilities = [name.lower().removeprefix("cap_")
                        for name in values("demi-xdp-helper.service", "AmbientCapabilities")[0].split()]
        environment = dict(word.split("=", 1) for word in " ".join(values("demitasse-echo.service", "Environment")).split())
        environment.update(DEMI_XDP_HELPER=path, XDG_RUNTIME_DIR=scratch)
        # As the service manager does: who connects starts the helper.
        with site.process("systemd-socket-activate", "--seqpacket", "-l", path,
                          *in_build(values("demi-xdp-helper.service", "ExecStart")[0]), capabilities=capabilities):
            deadline = time.monotonic() + LIMIT_S
            while not Path(path).exists():
                check(time.monotonic() < deadline, "no socket")
                time.sleep(0.05)
            os.chown(path, NOBODY, GROUP)  # SocketGroup=, SocketMode=
            os.chmod(path, 0o660)
            with site.process(*in_build(values("demitasse-echo.service", "ExecStart")[0]), user=NOBODY - 1, groups=[GROUP],
                              **environment) as echo:
                if not site.answers():
                    echo.kill()
                    raise Failure(f"no answer: {echo.stdout.read()}")


def main():
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for count, function in enumerate(tests, 1):
        name = function.__name__.replace("_", " ")
        begin = time.monotonic()
        try:
            function()
        except Skip as why:
            print(f"ok {count} - {name} # SKIP {why}", flush=True)
        except (Failure, subprocess.TimeoutExpired, ValueError, KeyError, IndexError, OSError) as why:
            failed += 1
            text = str(why).replace("\n", "\n# ")
            print(f"not ok {count} - {name}\n# {type(why).__name__}: {text}", flush=True)
        else:
            print(f"ok {count} - {name}\n# {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
