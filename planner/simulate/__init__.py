"""Floor 2: a whole cluster under real arrivals, event by event, exact to the picosecond."""
