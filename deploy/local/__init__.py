"""Runs real brokers and the four services as processes on loopback; the tests use it too.

Owns: the processes it starts, and their data and logs under the data folder it is given.
Promises: what was started is stopped again on leaving the context, on ctrl-C, when a child
dies, and even when the starting process is killed; a child's death is reported with its name
and the end of its log. It listens on loopback only and is not meant for production.
"""
