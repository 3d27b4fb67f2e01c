"""The benchmark: carriers, gateway and load in processes of their own, messages followed over their whole life."""
