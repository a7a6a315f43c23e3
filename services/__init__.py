"""The four services of axbridge and the runtime they stand on. They meet only in gRPC and topics."""
