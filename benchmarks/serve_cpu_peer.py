"""The peer of serve_cpu.py: what one writes with FastAPI, the fast way (async, numpy, one interpreter, no validation).

python benchmarks/serve_cpu_peer.py SOCKET MODEL.tflite
"""

import os
import sys
from typing import Any

import numpy as np
import uvicorn
from ai_edge_litert.interpreter import Interpreter
from fastapi import FastAPI, Request, Response

interpreter = Interpreter(sys.argv[2], num_threads=1)
interpreter.allocate_tensors()
given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
(scale, zero), (out_scale, out_zero) = given["quantization"], made["quantization"]
app = FastAPI()


def infer(x: Any) -> Any:
    """One inference, int8 in and out."""
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(made["index"])


@app.post("/binary")
async def binary(request: Request) -> Response:
    """Raw int8 in, raw int8 out."""
    x = np.frombuffer(await request.body(), np.int8).reshape(given["shape"])
    return Response(infer(x).tobytes(), media_type="application/octet-stream")


@app.post("/json")
async def as_json(body: dict[str, Any]) -> dict[str, Any]:
    """Numbers in, numbers out."""
    x = np.asarray(body["data"], np.float32).reshape(given["shape"])
    q = np.clip(np.rint(x / np.float32(scale)) + zero, -128, 127).astype(np.int8)
    return {"data": ((infer(q).astype(np.float32) - out_zero) * np.float32(out_scale)).ravel().tolist()}


@app.get("/live")
async def live() -> dict[str, bool]:
    """The health check."""
    return {"live": True}


print(os.getpid(), flush=True)
uvicorn.run(app, uds=sys.argv[1], log_level="error", access_log=False)
