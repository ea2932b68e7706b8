"""A device's record before its profile, and the exact command lines that start its agent."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgeship import profile
from edgeship.deploy import loader
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import NO_AGENT, STARTER, command_line, install_argv, resolve, start_argv
from edgeship.errors import ConfigError

PHONE = Device("phone", "android-termux", host="192.168.1.9")
PI = Device("pi", "raspberry-pi-5", host="pi.local")


def test_the_profile_fills_what_the_record_leaves_open() -> None:
    endpoint = resolve(PI, profile.load("raspberry-pi-5"))

    assert endpoint.python == ("python3",)
    assert endpoint.root == "~/.local/share/edgeship"
    assert (endpoint.init, endpoint.boot_hook) == ("systemd", "none")
    assert endpoint.serve_port == 8000
    assert endpoint.arch is None


def test_the_record_wins() -> None:
    device = Device("v", "raspberry-pi-5", python=("/opt/python",), root="/data", init="termux", serve_port=0,
                    arch="x86_64")  # fmt: skip

    endpoint = resolve(device, profile.load("raspberry-pi-5"))

    assert (endpoint.python, endpoint.root, endpoint.boot_hook) == (("/opt/python",), "/data", "termux")
    assert endpoint.serve_port is None  # 0: the Unix socket only
    assert endpoint.arch == "x86_64"


def test_a_local_child_runs_on_this_interpreter() -> None:
    device = Device("sim", "generic-x86-64", transport="local", root="/x")
    assert resolve(device, profile.load("generic-x86-64")).python == (sys.executable,)


def test_the_command_line_of_an_android_phone() -> None:
    """Termux's shell splits once, proot-distro wraps each argument in apostrophes: the loader must survive both."""
    endpoint = resolve(PHONE, profile.load("android-termux"))

    line = command_line(install_argv(endpoint, loader.LOADER))

    assert line == f"proot-distro login debian -- python3 -c '{loader.LOADER}' '~/.local/share/edgeship'"
    assert shlex.split(line) == [
        "proot-distro", "login", "debian", "--", "python3", "-c", loader.LOADER, "~/.local/share/edgeship",
    ]  # fmt: skip
    inner = " ".join(f"'{part}'" for part in shlex.split(line)[4:])  # what proot-distro makes of its arguments
    assert shlex.split(inner) == ["python3", "-c", loader.LOADER, "~/.local/share/edgeship"]


def test_the_starter_on_an_android_phone() -> None:
    line = command_line(start_argv(resolve(PHONE, profile.load("android-termux"))))

    assert line == f"proot-distro login debian -- python3 -c '{STARTER}' '~/.local/share/edgeship'"


@pytest.mark.parametrize("text", [STARTER, loader.LOADER])
def test_nothing_that_is_passed_holds_an_apostrophe(text: str) -> None:
    assert "'" not in text


def test_proot_distro_cannot_pass_an_apostrophe() -> None:
    endpoint = resolve(Device("phone", "android-termux", root="/it's"), profile.load("android-termux"))
    with pytest.raises(ConfigError, match="apostrophe"):
        start_argv(endpoint)


@pytest.mark.parametrize(
    "argument",
    ["; reboot", "$(reboot)", "`reboot`", "a b", "", "'", '"', "line\nbreak", "-oProxyCommand=reboot", "*", "~", "\\",
     "\t", "&& x", "|x", "ünï", "#"],
)  # fmt: skip
def test_an_argument_arrives_as_it_is(argument: str, tmp_path: Path) -> None:
    """Run by a real shell, as sshd does it."""
    argv = [sys.executable, "-c", "import sys; sys.stdout.write(sys.argv[1])", argument]

    got = subprocess.run(
        ["/bin/sh", "-c", command_line(argv)], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert got.stdout == argument


@pytest.mark.parametrize("argv", [[], ["a\0b"]])
def test_what_no_shell_can_pass_is_refused(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match="not a command"):
        command_line(argv)


def test_the_starter_says_that_there_is_no_agent(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STARTER, str(tmp_path)], check=False)
    assert done.returncode == NO_AGENT


def test_the_starter_starts_the_agent_and_expands_the_home(tmp_path: Path) -> None:
    (tmp_path / "x" / "agent").mkdir(parents=True)
    (tmp_path / "x" / "agent" / "current").write_text("import sys; print(sys.argv[1:])")

    done = subprocess.run([sys.executable, "-c", STARTER, "~/x"], env={"HOME": str(tmp_path)}, capture_output=True,
                          text=True, check=True)  # fmt: skip

    assert done.stdout.strip() == str(["rpc", "--root", str(tmp_path / "x")])


def test_nothing_says_how_python_starts() -> None:
    from dataclasses import replace

    found = profile.load("raspberry-pi-5")
    with pytest.raises(ConfigError, match="neither the device nor profile"):
        resolve(PI, replace(found, system=replace(found.system, python=())))
