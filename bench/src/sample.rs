//! Many measurements of the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Times of the same call.
#[derive(Debug, Clone)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Returns a sample without measurements.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a measurement.
    pub fn record(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1_000.0);
    }

    /// Returns the number of measurements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the measurements of another sample.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Returns the smallest time in milliseconds that `percent` % of the measurements do not exceed; NaN if there are no
    /// measurements.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// A sample to which many tasks add measurements.
#[derive(Debug, Clone)]
pub struct SharedSample(Arc<Mutex<Sample>>);

impl SharedSample {
    /// Returns a sample without measurements.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Sample::new())))
    }

    /// Adds a measurement.
    pub fn record(&self, time: Duration) {
        self.lock().record(time);
    }

    /// Returns a copy of the measurements so far.
    pub fn snapshot(&self) -> Sample {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_smallest_time_that_the_percentage_does_not_exceed() {
        let mut sample = Sample::new();
        assert!(sample.percentile(50).is_nan());
        for millis in (1..=200).rev() {
            sample.record(Duration::from_millis(millis));
        }
        let percentile = |percent| sample.percentile(percent).round() as i64;
        assert_eq!((percentile(50), percentile(99), percentile(100)), (100, 198, 200));
    }

    #[test]
    fn tasks_add_to_one_shared_sample() {
        let shared = SharedSample::new();
        shared.clone().record(Duration::from_millis(3));
        shared.record(Duration::from_millis(5));
        assert_eq!(shared.snapshot().len(), 2);
    }
}
