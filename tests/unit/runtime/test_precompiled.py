"""The supervisor starts from code compiled before, and leaves big modules out."""

from __future__ import annotations

import dataclasses
import inspect
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgeship.deploy import zipapp
from edgeship.runtime import precompiled
from edgeship.runtime.precompiled import CompiledFinder, LateInspect, compile_all


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    path = folder / "agent.pyz"
    path.write_bytes(zipapp.build(folder / "cache"))
    return path


@pytest.fixture
def compiled(app: Path) -> Iterator[tuple[int, int, precompiled.Table]]:
    """(descriptor, base, table) as the second process finds them."""
    table, codes = compile_all(str(app))
    fd = os.memfd_create("test")
    os.write(fd, b"head" + b"".join(codes))
    yield fd, 4, table
    os.close(fd)


def test_the_table_holds_the_supervisors_modules(compiled: tuple[int, int, precompiled.Table], app: Path) -> None:
    fd, base, table = compiled
    assert {"edgeship", "edgeship.runtime", "edgeship.runtime.supervisor", "edgeship.runtime.serve"} <= set(table)
    assert not {"edgeship.runtime.trust", "edgeship.runtime.rpc", "edgeship.runtime.engine"} & set(table)
    offset, size, file, package = table["edgeship.runtime.wire"]
    assert (file, package) == (f"{app}/edgeship/runtime/wire.py", False)
    assert marshal.loads(os.pread(fd, size, base + offset)).co_filename == file


def test_the_finder_loads_modules_and_knows_packages(compiled: tuple[int, int, precompiled.Table]) -> None:
    finder = CompiledFinder(*compiled)
    assert finder.find_spec("edgeship.runtime.trust") is None
    package = finder.find_spec("edgeship.runtime")
    assert package is not None
    assert package.submodule_search_locations
    spec = finder.find_spec("edgeship.runtime.errors")
    assert spec is not None
    assert finder.create_module(spec) is None
    module = ModuleType("edgeship.runtime.errors")
    finder.exec_module(module)
    assert "busy" in module.CODES


def test_the_supervisor_leaves_inspect_and_hashlib_out(app: Path) -> None:
    """What the budget of memory rests on: a dataclass without docstring, or an eager import, would fail here."""
    show = (
        f"import sys;sys.path.insert(0,{str(app)!r});from edgeship.runtime import precompiled as p;"
        "sys.modules['inspect']=p.LateInspect();import edgeship.runtime.supervisor;"
        "print(*sorted({'inspect','ast','dis','hashlib','subprocess','lzma','shutil','tempfile','argparse','ctypes',"
        "'logging','asyncio','ssl','datetime','edgeship.runtime.trust','edgeship.runtime.engine'}&set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["inspect"]  # the stand-in


def test_the_stand_in_gives_way_to_the_real_module(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = LateInspect()
    monkeypatch.setitem(sys.modules, "inspect", stand_in)

    @dataclasses.dataclass
    class Point:
        """Has one."""

        x: int

    assert set(stand_in.get_annotations(Point)) == {"x"}
    assert stand_in.get_annotations(object) == {}
    assert str(stand_in.signature(Point)) == str(inspect.signature(Point))
    assert sys.modules["inspect"] is not stand_in
    assert stand_in.isclass(Point)


def test_where_it_cannot_be_done_the_process_goes_on(
    app: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, argv: started.append(argv))
    precompiled.replace(str(tmp_path), ["supervise"])  # a development folder

    def refused(*_args: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refused)
    precompiled.replace(str(app), ["supervise"])
    monkeypatch.delattr(os, "memfd_create")
    precompiled.replace(str(app), ["supervise"])
    assert not started


def test_the_second_process_gets_the_command_line(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, argv: started.append(argv))
    precompiled.replace(str(app), ["supervise", "--root", "/r"])
    (argv,) = started
    assert argv[1:3] == ["-I", "-c"]
    assert argv[5:] == [str(app), "supervise", "--root", "/r"]
    fd = int(argv[4])
    show = "import sys;from edgeship.runtime import __main__ as m;print(m.__file__, sys.argv);"
    starter = precompiled.STARTER.replace("g['begin']", f"(lambda *a:(g['begin'](*a),exec({show!r})))")
    done = subprocess.run(
        [sys.executable, "-I", "-c", starter, str(fd), str(app), "version"],
        pass_fds=[fd], capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(fd)
    assert done.stdout.startswith("0.")
    assert f"{app}/edgeship/runtime/__main__.py ['{app}', 'version']" in done.stdout


def test_begin_runs_the_command_line_and_cleans_up(
    compiled: tuple[int, int, precompiled.Table], app: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fd, base, table = compiled
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    finders = list(sys.meta_path)
    assert precompiled.begin(os.dup(fd), base, table, [str(app), "version"]) == 0
    assert capsys.readouterr().out.startswith("0.")
    assert sys.argv == [str(app), "version"]
    assert sys.path[0] == str(app)
    assert sys.meta_path == finders
