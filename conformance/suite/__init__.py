"""Runs grpcio's own Python tests on oxgrpc. None of their code is kept here: it is obtained, see ``source``."""
