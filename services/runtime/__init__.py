"""What every service stands on: errors, time, identity, settings, serving, telemetry, Kafka.

Refuses to know any rule of the domain: nothing here may import a service, and nothing here may
mention what the services are about.
"""
