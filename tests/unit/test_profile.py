"""Hardware profiles: ours are right, and a wrong one is refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import libraries, profile
from edgeship.errors import ConfigError

OURS = [
    "android-termux", "generic-arm64", "generic-x86-64", "jetson-agx-orin", "jetson-nano", "jetson-orin-nano",
    "jetson-xavier-nx", "raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-os-32bit",
    "raspberry-pi-zero-2-w",
]  # fmt: skip

GOOD = """schema = "edgeship.profile/v1"
name = "board"
family = "generic"
summary = "A board"
source = "its data sheet"

[hardware]
arch = "aarch64"
cpu = "4 x Cortex-A53 1 GHz"
memory_mb = 512
storage = "sd"

[system]
python = ["python3"]
python_min = "3.11"
glibc_min = "2.36"
init = "systemd"

[build]
formats = ["tflite"]
precisions = ["int8"]
runtime = { tflite = "litert-2.3.0" }
threads = 4
"""


@pytest.fixture(autouse=True)
def no_profiles_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgeship" / "profiles"


def write(folder: Path, text: str, name: str = "board.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_boards_of_the_mission_are_there() -> None:
    assert profile.names() == OURS


@pytest.mark.parametrize("name", OURS)
def test_ours_load_and_their_runtime_libraries_are_pinned(name: str) -> None:
    found = profile.load(name)
    assert found.name == name
    assert len(found.source) > 20
    if found.supported is None:
        assert profile.version_tuple(found.system.python_min) >= (3, 10)
        for format_name, runtime in found.build.runtime.items():
            pin = libraries.pinned(runtime, found.hardware.arch)
            assert pin.format == format_name
            assert profile.version_tuple(found.system.glibc_min) >= profile.version_tuple(pin.glibc_min)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jetson-nano", "Python 3.6 and glibc 2.27"),
        ("jetson-xavier-nx", "Python 3.8, glibc 2.31"),
        ("raspberry-pi-os-32bit", "32-bit Arm"),
    ],
)
def test_boards_that_cannot_carry_the_agent_say_why(name: str, reason: str) -> None:
    why = profile.load(name).supported
    assert why is not None
    assert reason in why


def test_a_keras_model_becomes_onnx_on_jetsons_and_tflite_on_pis_and_phones() -> None:
    first = {name: profile.load(name).build.formats[:1] for name in OURS}
    assert {name for name, formats in first.items() if formats == ("onnx",)} == {n for n in OURS if "jetson" in n}
    assert first["raspberry-pi-5"] == first["android-termux"] == ("tflite",)


def test_android_means_debian_in_termux() -> None:
    android = profile.load("android-termux")
    assert android.system.python == ("proot-distro", "login", "debian", "--", "python3")
    assert (android.transport.port, android.system.init) == (8022, "termux")


def test_defaults_fill_in_transport_and_sensors(tmp_path: Path) -> None:
    found = profile.load_file(write(tmp_path, GOOD))
    assert found.transport == profile.TransportDefaults()
    assert found.supported is None
    assert found.temperature is None
    assert profile.load("raspberry-pi-5").temperature == "sysfs:thermal_zone0"


def test_no_board_of_ours_asks_for_dynamic_int8() -> None:
    """ONNX Runtime's is 2 to 5 times slower than float32 on convolutional nets; a search tries it, a push does not."""
    asked = {name: profile.load(name).build.precisions for name in profile.names()}
    assert {name for name, precisions in asked.items() if "dynamic" in precisions} == set()
    assert any("int8" in precisions for precisions in asked.values())


def test_an_unknown_profile_is_named_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown profile 'raspbery-pi-5'; did you mean 'raspberry-pi-5'") as caught:
        profile.load("raspbery-pi-5")
    assert caught.value.hint == "edgeship profile list"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["runtimes", "../runtimes", "/etc/passwd", "", "a\0b"])
def test_a_name_is_no_path_and_runtimes_is_no_profile(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown profile"):
        profile.load(name)


def test_a_profile_of_the_user_wins_over_ours(no_profiles_of_the_user: Path) -> None:
    write(no_profiles_of_the_user, GOOD)
    write(no_profiles_of_the_user, GOOD.replace('"board"', '"generic-arm64"'), "generic-arm64.toml")
    assert "board" in profile.names()
    assert profile.load("board").hardware.memory_mb == 512
    assert profile.load("generic-arm64").summary == "A board"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory_mb = 512", "memroy_mb = 512", ":10: unknown key 'hardware.memroy_mb'; did you mean 'memory_mb'?"),
        ("[hardware]", "[hardwear]", ":7: unknown table 'hardwear'; did you mean 'hardware'?"),
        ('arch = "aarch64"', 'arch = "arm64"', ":8: hardware.arch must be one of aarch64, x86_64, armv7l"),
        ("memory_mb = 512", 'memory_mb = "512"', ""),
        ("memory_mb = 512\n", "", ":7: hardware.memory_mb is missing"),
        ('name = "board"', 'name = "other"', ":2: name 'other' must be the file's: 'board'"),
        ("edgeship.profile/v1", "edgeship.profile/v2", ':1: schema must be "edgeship.profile/v1"'),
        ('schema = "edgeship.profile/v1"\n', "", ': schema must be "edgeship.profile/v1"'),
        ('"litert-2.3.0"', '"litert"', ":22: build.runtime must name a runtime library with its version"),
        ("{ tflite", "{ tflit", ":22: build.runtime names 'tflit', which is none of tflite, onnx; did"),
        ("{ tflite", "{ onnx", ":22: build.runtime names no runtime library for tflite"),
        ('tflite = "litert-2.3.0" }', 'tflite = "litert-2.3.0", onnx = "onnxruntime-1.31.1" }', ":22: build.formats"),
        ('formats = ["tflite"]', "formats = []", ""),
        ('runtime = { tflite = "litert-2.3.0" }', "runtime = {}", ":22: build.runtime names no"),
        ('precisions = ["int8"]', "precisions = []", ":19: build.formats and build.precisions must not be empty"),
        ('precisions = ["int8"]', 'precisions = ["int4"]', ":21: build.precisions holds 'int4'"),
        ('python_min = "3.11"', 'python_min = "three"', ":15: system.python_min must be a version"),
        ('init = "systemd"', 'init = "systemd"\nagent = "unsupported"', ":18: system.agent must be"),
        ("threads = 4", 'threads = 4\n[sensors]\ntemprature = "a:b"', ":24: sensors holds 'temprature'"),
        ("threads = 4", 'threads = 4\n[sensors]\ntemperature = "hot"', ":24: sensors must give temperature as"),
        ("threads = 4", "threads = 4\n[sensors]\nthrottle_celsius = 900", ":24: sensors must hold throttle_celsius"),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_refused_with_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    if not message:
        with pytest.raises(ConfigError):
            profile.load_file(path)
        return
    with pytest.raises(ConfigError) as caught:
        profile.load_file(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_an_unsupported_profile_may_build_nothing(tmp_path: Path) -> None:
    text = GOOD.replace('init = "systemd"', 'init = "none"\nagent = "unsupported: too small"')
    text = text.replace('["tflite"]', "[]").replace('["int8"]', "[]").replace('{ tflite = "litert-2.3.0" }', "{}")
    assert profile.load_file(write(tmp_path, text)).supported == "too small"


def test_the_device_sim_takes_the_generic_profile_of_this_machine() -> None:
    assert profile.host_profile("x86_64") == "generic-x86-64"
    assert profile.host_profile("aarch64") == profile.host_profile("arm64") == "generic-arm64"


def test_versions_compare_as_numbers() -> None:
    assert profile.version_tuple("3.9") < profile.version_tuple("3.11.2") == (3, 11, 2)
