"""PyTorch as a source: an exported program (`.pt2`), read without torch, exported to float ONNX by one torch child."""
