//! Many measurements of one thing.

use std::time::Duration;

/// How long something took, each time.
#[derive(Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn add(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1_000.0);
    }

    pub fn add_if(&mut self, counts: bool, took: Duration) {
        if counts {
            self.add(took);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes in another of the same thing.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// In milliseconds; not a number if nothing was measured.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The value that so many of a hundred are not above, in milliseconds; not a number if nothing was measured.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let mut sample = Sample::default();
        assert!(sample.percentile(50).is_nan());
        (1..=200).rev().for_each(|millis| sample.add(Duration::from_millis(millis)));
        let at = |percent| sample.percentile(percent).round() as i64;
        assert_eq!((at(50), at(99), at(100)), (100, 198, 200));
    }
}
