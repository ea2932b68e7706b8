"""ONNX: reading, float forms, and static quantization with ONNX Runtime."""
