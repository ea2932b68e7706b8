"""Edgeship takes a trained model to a fleet of edge devices and keeps it healthy there."""

__version__ = "0.1.0"
