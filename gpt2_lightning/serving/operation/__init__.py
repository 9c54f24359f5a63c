"""Running the server: sockets, signals, workers, the checks before every request, metrics and the access log."""
