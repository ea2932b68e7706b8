"""ONNX to TFLite by onnx2tf, which lives in an environment of its own (`edgeship setup onnx2tf`)."""
