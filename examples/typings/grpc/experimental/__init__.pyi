from oxgrpc.experimental import *
