"""The commands of ``smpp-gateway``, registered in ``gateway.cli``."""
