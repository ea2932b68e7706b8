"""The main job, end to end: a trained model goes to a fleet, is updated, is refused when bad, and is watched.

    python examples/digits/demo.py            # or: make demo

Every line that starts with `$` is a command as you would type it, with all that it prints. Nothing is staged: the model
is trained, the devices are SSH servers with processes of their own, and the script ends with exit code 1 when anything
is not as it must be. It works in a new temporary folder and leaves nothing running.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from stage import Deviation, Prober, Stage, end, get, infer_body, left_running, post, until

HERE = Path(__file__).resolve().parent
DEVICES = {"pi": "raspberry-pi-5", "jetson": "jetson-orin-nano", "phone": "android-termux"}
MODEL = "digits"
LAB = f"lab={MODEL}"
TRAINED = ("digits.keras", "calibration.npz", "evaluation.npz", "wrong-scale.npz")


# ── helpers of the story ─────────────────────────────────────────────────────────────────────────────────────────────


def ports(stage: Stage) -> dict[str, int]:
    """Serving port of each virtual device, as the inventory has it."""
    found = {d["name"]: d["serve_port"] for d in stage.ask("edgeship", "device", "list")}
    return {name: int(found[name]) for name in DEVICES}


def first_digit(stage: Stage) -> tuple[bytes, int]:
    """A request with the first evaluation digit, and its true label."""
    with np.load(stage.folder / "evaluation.npz") as data:
        return infer_body(data["image"][0].ravel(), "image", [1, 28, 28, 1]), int(data["labels"][0])


def served(stage: Stage) -> dict[str, int]:
    """Release counter that each virtual device serves, asked of the devices."""
    asked = {d["device"]: d["status"] for d in stage.ask("edgeship", "agent", "status", "-l", LAB)}
    return {name: int(asked[name]["counter"]) for name in DEVICES}


def sent(text: str) -> list[str]:
    """The deploy lines of a push."""
    return [line for line in text.splitlines() if "deploy" in line and "sent" in line]


def all_serve(stage: Stage, counter: int) -> None:
    """Check that every virtual device serves this release."""
    now = served(stage)
    stage.check(set(now.values()) == {counter}, f"all three serve release {counter}")


def uninterrupted(stage: Stage, prober: Prober, versions: int, what: str) -> None:
    """Check that nobody who asked during something went away without an answer."""
    stage.check(not prober.failures, f"{prober.total} requests while {what}: all answered" + _first(prober.failures))
    stage.check(
        all(len(seen) == versions for seen in prober.versions.values()),
        f"each device answered as {'one version' if versions == 1 else 'the old version, then the new one'}",
    )


def _first(failures: list[str]) -> str:
    return f" ({len(failures)} failed, the first: {failures[0]})" if failures else ""


# ── the story ────────────────────────────────────────────────────────────────────────────────────────────────────────


def train(stage: Stage) -> None:
    """A stand-in for your model."""
    stage.title("Your model: a small Keras network on 5,000 handwritten digits")
    if (stage.folder / "digits.keras").exists():
        stage.say("trained before; copied from the folder that was given")
        return
    said = stage.run("python train.py")
    accuracy = re.search(r"([\d.]+)% of 1,000", said)
    stage.check(accuracy is not None and float(accuracy[1]) >= 97, "at least 97 % on digits that it has not seen")
    stage.figures["accuracy of the float model"] = f"{accuracy[1] if accuracy else '?'} %"


def on_this_machine(stage: Stage) -> None:
    """Step 1: a project, and the model on the local child."""
    stage.title("1  From zero to running, no hardware needed")
    stage.run("edgeship init")
    stage.run("""sed -i 's/window = "60s"/window = "2s"/' edgeship.toml""")
    said = stage.run("edgeship push digits.keras -l name=sim")
    stage.figures["first push, to sim"] = _after_sent(said)


def _after_sent(text: str) -> str:
    lines = sent(text)
    found = re.search(r"([\d.]+ .?B sent \([^)]*\))", lines[0]) if lines else None
    return found[1] if found else "see above"


def on_three_devices(stage: Stage) -> None:
    """Step 2: three virtual devices over SSH, each with what its profile asks for."""
    stage.title("2  Three devices of different kinds, over SSH")
    stage.run("edgeship lab up")
    stage.run("edgeship device show phone")
    said = stage.run(f"edgeship push digits.keras -l {LAB}")
    stage.figures["first push, to pi"] = _after_sent("\n".join(x for x in said.splitlines() if " pi" in x))
    variants = {d["device"]: d["status"] for d in stage.ask("edgeship", "agent", "status", "-l", LAB)}
    built = {name: f"{variants[name]['format']} {variants[name]['precision']}" for name in DEVICES}
    wanted = {"pi": "tflite int8", "jetson": "onnx int8", "phone": "tflite int8"}
    stage.check(built == wanted, "TFLite int8 for the Pi and the phone, ONNX int8 for the Jetson")


def answers(stage: Stage) -> None:
    """Step 3: answers, through edgeship and with a plain client."""
    stage.title("3  Answers beside the true labels")
    for name in DEVICES:
        stage.run(f"edgeship infer {name} --data evaluation.npz --n 5")
    stage.asked("pi", 5)
    body, label = first_digit(stage)
    (stage.folder / "request.json").write_bytes(body)
    url = f"http://127.0.0.1:{ports(stage)['pi']}/v2/models/{MODEL}/infer"
    if shutil.which("curl"):
        answer = json.loads(stage.run(f"curl -s {url} --data @request.json"))
    else:
        stage.say("curl is not installed; the same request by Python's urllib:")
        answer = post(url, body)
        print(f"  {json.dumps(answer)}")
    stage.asked("pi", 1)
    scores = answer["outputs"][0]["data"]
    stage.check(scores.index(max(scores)) == label, f"the Open Inference Protocol answers {label}, the true label")


def update(stage: Stage) -> None:
    """Step 4, first part: a second version; only the model travels."""
    stage.title("4  An update: one more epoch; agent and runtime library are not sent again")
    stage.run("python train.py --continue-from digits.keras --epochs 1")
    before = served(stage)
    with Prober(ports(stage), MODEL, first_digit(stage)[0]) as prober:
        said = stage.run(f"edgeship push digits.keras -l {LAB}")
    lines = sent(said)
    only = len(lines) == len(DEVICES) and not any("agent" in x or "runtime library" in x for x in lines)
    stage.check(only, "only the model went over")
    stage.figures["update, to pi"] = _after_sent("\n".join(x for x in lines if " pi" in x))
    all_serve(stage, max(before.values()) + 1)
    uninterrupted(stage, prober, 2, "the update went on")
    stage.asked("pi", prober.answered["pi"])
    stage.figures["unanswered requests during the update"] = f"0 of {prober.total}"


def refusals(stage: Stage) -> None:
    """Step 4, second part: a bad release is refused twice, and the old one never stops serving."""
    stage.title("   A bad release: right weights, calibration data in the wrong scale")
    before = served(stage)
    with Prober(ports(stage), MODEL, first_digit(stage)[0]) as prober:
        stage.run(f"edgeship push digits.keras -l {LAB} --calibration wrong-scale.npz", code=6)
        stage.say("the host's check refused it; forced past it, the devices' own probe does:")
        stage.run(f"edgeship push digits.keras -l {LAB} --calibration wrong-scale.npz --skip-check", code=7)
    uninterrupted(stage, prober, 1, "two bad pushes were refused")
    stage.check(served(stage) == before, f"all three still serve release {max(before.values())}")
    stage.asked("pi", prober.answered["pi"])
    stage.figures["unanswered requests while two bad pushes were refused"] = f"0 of {prober.total}"


def power_cut(stage: Stage) -> None:
    """Step 5: a device loses power and comes back by itself; its telemetry too."""
    stage.title("5  A device loses power")
    body = first_digit(stage)[0]
    port, before = ports(stage)["pi"], served(stage)["pi"]
    url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
    for _ in range(50):
        post(url, body)
    stage.asked("pi", 50)
    time.sleep(4.5)  # two windows of 2 s: what was asked so far is on its disk
    stage.run("edgeship lab fault pi power-cut")
    try:
        post(url, body, 2)
    except OSError:
        stage.check(True, "it does not answer any more")
    else:
        raise Deviation("the device answers without power")
    stage.run("edgeship lab fault pi power-on")
    took = until("the device serves again", lambda: bool(post(url, body)))
    stage.check(True, f"it serves again without help, {took:.1f} s after it was started")
    stage.check(post(url, body).get("model_version") == str(before), f"the good version, release {before}")
    stage.run("edgeship telemetry pull -l name=pi")
    [row] = stage.ask("edgeship", "telemetry", "query", "-l", "name=pi", "--metric", "requests")
    arrived = row["values"]["requests"]
    stage.check(
        arrived >= stage.requests["pi"],
        f"telemetry from before arrived: all {stage.requests['pi']} requests that it answered before the cut",
    )
    stage.figures["power to first answer"] = f"{took:.1f} s after the virtual device was started"


def rollback(stage: Stage) -> None:
    """An operator's way back: a new signed release with the old files."""
    stage.title("   An operator goes back to the first version: a new release with its files")
    stage.run(f"edgeship rollback -l {LAB} --to 2 --yes")


def watch(stage: Stage) -> None:
    """Step 6: telemetry, status, benchmark, report, dashboard."""
    stage.title("6  Watch and measure")
    stage.run("edgeship telemetry pull --all")
    stage.run("edgeship telemetry query -l name=pi")
    stage.run("edgeship status")
    said = stage.run("edgeship bench run --all --html report.html")
    page = (stage.folder / "report.html").read_text(encoding="utf-8")
    stage.check("<script" not in page and all(name in page for name in DEVICES), "the report names every device")
    stage.figures["report"] = f"{len(page) / 1000:.0f} kB, one file"
    for line in said.splitlines():
        if "p50" in line:
            name = line.split()[2].rstrip(":")
            stage.figures[f"latency, {name}"] = line[line.index("p50") :].split("   ")[0]
    memory = {d["device"]: d["status"]["pss"] for d in stage.ask("edgeship", "agent", "status", "--all")}
    for name, pss in memory.items():
        parts = [f"{part} {pss[part] / 1e6:.1f} MB" for part in ("supervisor", "worker") if pss.get(part)]
        stage.figures[f"PSS, {name}"] = ", ".join(parts)
    dashboard(stage)


def dashboard(stage: Stage) -> None:
    """Look at the dashboard as a browser without a screen would."""
    line = "edgeship serve --port 0"
    print(f"\n$ {line}", flush=True)
    with subprocess.Popen(
        line.split(), cwd=stage.folder, env=stage.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = ""
            for text in process.stdout:
                print(f"  {text}", end="", flush=True)
                if found := re.search(r"http://127\.0\.0\.1:\d+\S*", text):
                    url = found[0]
                    break
            if not url:
                raise Deviation("the dashboard does not say where it is")
            status, page = get(url)
            stage.check(status == 200 and all(name in page for name in DEVICES), "the dashboard shows all devices")
        finally:
            process.terminate()


def clean(stage: Stage) -> None:
    """End what was started; nothing is left running."""
    stage.title("   Nothing is left running")
    stage.run("edgeship lab down")
    stage.run("edgeship agent stop -l name=sim --yes")
    until("all processes of the demo end", lambda: not left_running(stage.folder), seconds=15)
    stage.check(True, "no process of the demo is left")


STORY = (train, on_this_machine, on_three_devices, answers, update, refusals, power_cut, rollback, watch, clean)


def perform(stage: Stage) -> str | None:
    """Play the story: None when all went as it must, else what did not."""
    for part in STORY:
        began = time.monotonic()
        try:
            part(stage)
        except (Deviation, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            return f"{part.__name__}: {type(error).__name__}: {error}"
        stage.figures[f"seconds: {part.__name__.replace('_', ' ')}"] = f"{time.monotonic() - began:.1f}"
    return None


def tidy(stage: Stage) -> None:
    """Whatever happened: end what is left, by process id."""
    if not left_running(stage.folder):
        return
    stage.quietly("edgeship lab down")
    stage.quietly("edgeship agent stop --all --yes")
    end(list(left_running(stage.folder)))


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--keep", action="store_true", help="keep the project folder")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="take what train.py wrote there before")
    options = parser.parse_args()
    parent = Path(tempfile.mkdtemp(prefix="edgeship-demo-"))
    stage = Stage(parent / MODEL)
    stage.folder.mkdir()
    shutil.copy(HERE / "train.py", stage.folder)
    for name in TRAINED if options.trained else ():
        shutil.copy(options.trained / name, stage.folder)
    wrong: str | None = "interrupted"
    try:
        wrong = perform(stage)
    except KeyboardInterrupt:
        return 130
    finally:
        tidy(stage)
        if not options.keep:
            shutil.rmtree(parent, ignore_errors=True)
    print(f"\n━━ {'What was measured' if wrong is None else 'DEVIATION'} {'━' * 70}")
    for name, figure in stage.figures.items():
        print(f"   {name:<52} {figure}")
    print(f"   {'seconds: all':<52} {time.monotonic() - stage.began:.1f}")
    if wrong is not None:
        print(f"\n   ✘ {wrong}", file=sys.stderr)
        return 1
    print("\n   next, in a project of your own: edgeship serve --open")
    return 0


if __name__ == "__main__":
    sys.exit(main())
