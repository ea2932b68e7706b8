"""SavedModel as a source: read without TensorFlow, exported to float TFLite and ONNX by one TensorFlow child."""
