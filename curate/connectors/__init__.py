"""Live services where people label: each behind the same `Connector`, and `sync`, which keeps both sides equal."""
