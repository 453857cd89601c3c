"""Deltas: a blob made of another one that the receiver holds, and of few bytes that move.

``make(base, result)`` on the workstation, ``apply(delta, base, out)`` on the device. Both are functions of files: they
know no store and no bundle. Nothing in a delta is trusted: its description is read with limits, each length is exact,
each window is bounded, and what comes out is hashed before it counts.
"""
