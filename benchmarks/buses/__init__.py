"""Events from one process to another through one server: the bus, plain streams, and other libraries on Redis."""
