"""Adapters that put our parts under the tests of others. Their tests are not here: ``make peers`` finds them."""
