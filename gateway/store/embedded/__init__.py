"""The embedded store: a Valkey server that the gateway launches, adopts and stops."""
