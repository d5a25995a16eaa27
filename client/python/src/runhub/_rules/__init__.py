"""This package decides when to retry a call, on which channel to make a held call or open a stream, when a lease is
lost, and which updates a subscription yields.

The blocking client and the asyncio client share this package. The code uses no clock or thread, and makes no
calls. Callers pass the current time in seconds of a monotonic clock.
"""
