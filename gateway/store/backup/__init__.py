"""Backups of a store: taken while gateways work (``copy``), kept as one file (``archive``), put back (``restore``).

A backup has a snapshot of every primary, each of one instant; so every partition is consistent in itself, and in a
cluster the partitions of different servers may be seconds apart. Nothing in the gateway spans partitions but requests
with an Idempotency-Key, whose repeat settles what is missing.

What a restored store had accepted before the backup may have been sent since. So the flag ``keys.RESTORED`` makes the
gate hand it back, and it is held until an operator releases it.
"""
