"""The benchmark: carriers, gateway and load generator as processes; messages are followed over their whole life."""
