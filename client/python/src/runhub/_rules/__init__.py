"""What both worlds do, blocking and asyncio: decided here, without a clock, a channel or a thread. They are told the
time, in seconds of a clock that never goes back."""
