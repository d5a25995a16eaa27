"""This package implements the asyncio client."""

from runhub.aio.client import AsyncClient, connect
from runhub.aio.lease import AsyncLease
from runhub.aio.subscription import AsyncSubscription

__all__ = ["AsyncClient", "AsyncLease", "AsyncSubscription", "connect"]
