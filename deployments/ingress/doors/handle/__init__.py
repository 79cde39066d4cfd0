"""The second door of the ingress: calls through a Ray handle. Plain JSON values in and out, so that the versions of the two
ends are independent; an error is an answer too, never an exception that the caller would need our classes for."""
