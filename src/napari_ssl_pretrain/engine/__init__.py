"""How a run is done: the only room that knows torch. No Qt."""
