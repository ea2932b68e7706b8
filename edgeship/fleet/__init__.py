"""Fleet: the store, the inventory, ingest of telemetry and its roll-ups."""
