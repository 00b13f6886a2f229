"""A client of the local HTTP API for Python programs: `from api.client import Client`.

It needs nothing of the server: standard library and the readers of ids and JSON below `feeds`.
"""

from api.client.client import Client
from api.client.events import Event
from api.client.problems import ApiProblem, NodeNotRunning

__all__ = ["ApiProblem", "Client", "Event", "NodeNotRunning"]
