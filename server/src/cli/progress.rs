//! The progress bar of long commands.

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a progress bar on standard error. It stays hidden if standard error is not a terminal.
pub fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:<12} {wide_bar} {pos}/{len}  {eta}") {
        bar.set_style(style);
    }
    bar
}
