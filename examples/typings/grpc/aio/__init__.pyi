from oxgrpc.aio import *
