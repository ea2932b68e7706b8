"""Lab: virtual devices, each a real SSH server, and faults for them."""
