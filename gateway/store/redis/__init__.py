"""Connections to the store: one server or a cluster; exceptions of redis-py end here."""
