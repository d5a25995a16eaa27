//! This module notices that the program that reads the standard output has ended, even while the command prints
//! nothing.

use std::future::pending;
use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

/// Waits until the reader of the standard output has closed its end, and returns the error that a write would cause. If
/// the standard output is a file, the function waits forever.
pub async fn stdout_closed() -> io::Error {
    // The end of the command does not wait for this thread.
    match tokio::task::spawn_blocking(wait_until_closed).await {
        Ok(Ok(flags)) if flags.intersects(PollFlags::ERR | PollFlags::HUP) => io::ErrorKind::BrokenPipe.into(),
        // The operating system can't watch the standard output.
        _ => pending().await,
    }
}

/// Blocks the thread until the reader of the standard output has closed its end, and returns the flags of the standard
/// output. Fails if the operating system can't watch the standard output.
fn wait_until_closed() -> rustix::io::Result<PollFlags> {
    let stdout = io::stdout();
    // The call waits for no event of its own. The operating system reports errors and a closed reader nevertheless.
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    retry_on_intr(|| poll(&mut watched, None))?;
    Ok(watched[0].revents())
}
