"""The link to whoever manages the device: an MQTT broker, by which documents come and go."""
