"""Online decisions as pure functions: the simulator and the proxy call the very same ones."""
