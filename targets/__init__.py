"""Targets: one package per model format that edgeship builds for, alike in shape."""
