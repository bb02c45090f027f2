"""One client: the state machine that drives parse, route, cache, pool and relay."""
