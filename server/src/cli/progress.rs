//! How far a long command is.

use indicatif::{ProgressBar, ProgressStyle};

/// Progress on standard error; nothing where that is no terminal.
pub fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:<12} {wide_bar} {pos}/{len}  {eta}") {
        bar.set_style(style);
    }
    bar
}
