"""The agent: what runs on a device. Standard library only, Python 3.10 or later; tuf in `trust` alone."""

__version__ = "0.1.0"
