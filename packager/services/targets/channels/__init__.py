"""The ways to a device: a broker, a folder that is carried, ssh; each keeps the one protocol of ``base``."""
