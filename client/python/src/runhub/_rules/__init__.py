"""Decisions that the clients for threads and for asyncio share: when to retry, when a lease is lost, what to show.

This code uses no clock, channel or thread. Callers pass the time as seconds of a monotonic clock.
"""
