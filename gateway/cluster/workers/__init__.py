"""``workers = N``: a supervisor that owns the store, and N whole gateways as processes of their own.

    supervisor   config ─ store ─ operators' listener ─┬─ worker 1 ─┐
                                                       ├─ worker 2 ─┼─ one HTTP port, one store
                                                       └─ worker N ─┘

Supervisor and worker hold the two ends of a socket (``channel``): orders go down, a word every second comes up, and
whoever dies is noticed by its end. What operators ask travels over a socket file of each worker (``ask``).
"""
