//! This module creates the progress bars of long-running commands.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two redraws of a bar whose operation reports no progress.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Returns a progress bar that writes to standard error. If standard error is not a terminal, the bar stays hidden.
pub fn new_progress_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:<12} {wide_bar} {pos}/{len}  {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Returns a progress bar as `new_progress_bar` does, for a number of bytes that is not known yet.
pub fn new_byte_progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{msg:<8} {wide_bar} {bytes}/{total_bytes}  {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Shows a spinner with a message instead of the bar, for a step whose length is not known. If the spinner already
/// shows the message, the function changes nothing.
pub fn show_activity(bar: &ProgressBar, message: String) {
    if bar.message() == message {
        return;
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar.enable_steady_tick(REDRAW_INTERVAL);
}
