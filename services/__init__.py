"""The four services and the runtime they stand on. They meet only in gRPC and topics."""
