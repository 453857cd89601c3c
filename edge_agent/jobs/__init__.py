"""Short-lived processes of the resident agent, one module a verb: verified, fetched, unpacked and exchanged is here.

Each may be killed at any moment, and is then finished or undone by the next one.
"""
