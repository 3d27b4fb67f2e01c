"""``workers = N``: a supervisor that owns the store, and N complete gateways as processes of their own.

    supervisor   config ─ store ─ admin listener ─┬─ worker 1 ─┐
                                                  ├─ worker 2 ─┼─ one HTTP port, one store
                                                  └─ worker N ─┘

Supervisor and worker hold the two ends of a socket pair (``channel``): the supervisor sends the configuration once, the
worker reports every second, and the end of the stream tells either side that the other has died. Admin requests go
over a Unix socket of each worker (``requests``).
"""
