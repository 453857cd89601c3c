"""Desired and reported state: the documents between whoever manages a device and the device."""
