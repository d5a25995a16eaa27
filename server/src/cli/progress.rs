//! This module creates the progress bar of long-running commands.

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a progress bar that writes to standard error. If standard error is not a terminal, the bar stays hidden.
pub fn new_progress_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:<12} {wide_bar} {pos}/{len}  {eta}") {
        bar.set_style(style);
    }
    bar
}
