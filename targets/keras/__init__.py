"""Keras as a source: read without a framework, exported to float TFLite and ONNX by one TensorFlow child."""
