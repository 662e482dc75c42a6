"""Every interpreter of the suite, those that tests start included, has oxgrpc where it says ``import grpc``."""

import oxgrpc

oxgrpc.install_as_grpc()
