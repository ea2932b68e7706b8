"""Targets: one package per model format that edgeship builds for, alike in shape.

`base` holds the words (Recipe, Variant, Target), `registry` finds the target of a format, `child` runs frameworks in
limited child processes, `cache` keeps what was built by content, `answers` runs models over data. `tflite` and `onnx`
are targets; `keras` is a source that both build from, by what `routes` says.
"""
