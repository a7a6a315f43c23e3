"""How axbridge is run: as processes on one machine, in containers, on Kubernetes."""
