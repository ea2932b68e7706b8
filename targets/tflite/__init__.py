"""TFLite: reading, float forms, and quantization with ai-edge-quantizer."""
