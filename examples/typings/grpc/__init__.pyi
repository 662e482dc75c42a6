# What `import grpc` means to type checkers: oxgrpc. The same as `oxgrpc.install_as_grpc()` does for Python.
from oxgrpc import *
from oxgrpc import __version__ as __version__
from oxgrpc import aio as aio
from oxgrpc import experimental as experimental
from oxgrpc._base_call import CallFuture, CallIterator

# What the synchronous API's calls are, under the names that types-grpcio gave them.
_CallFuture = CallFuture
_CallIterator = CallIterator
