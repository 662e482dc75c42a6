"""Where grpcio has its native part. Other packages reach into it for a few names, which are in :mod:`.cygrpc`."""

from . import cygrpc as cygrpc
