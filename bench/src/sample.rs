//! Many measurements of the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Error;

/// A percentile is at most 0.1 % too large.
const SIGNIFICANT_DIGITS: u8 = 3;
/// A longer time counts as this one.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Times of the same call, in nanoseconds. Takes 260 KiB, however many times are recorded.
#[derive(Debug, Clone)]
pub struct Sample(Histogram<u64>);

impl Sample {
    /// Returns a sample without measurements. Fails only if the constants above are wrong.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Histogram::new_with_bounds(1, nanos(LONGEST), SIGNIFICANT_DIGITS)?))
    }

    /// Adds a measurement.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(nanos(time));
    }

    /// Returns the number of measurements.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Adds the measurements of another sample.
    pub fn extend(&mut self, other: &Self) {
        // Adding fails only between histograms with different bounds.
        self.0 += &other.0;
    }

    /// Returns the smallest time in milliseconds that `percent` % of the measurements do not exceed; NaN if there are no
    /// measurements.
    pub fn percentile(&self, percent: u8) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        Duration::from_nanos(self.0.value_at_percentile(percent.into())).as_secs_f64() * 1_000.0
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A sample to which many tasks add measurements.
#[derive(Debug, Clone)]
pub struct SharedSample(Arc<Mutex<Sample>>);

impl SharedSample {
    /// Returns a sample without measurements.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Arc::new(Mutex::new(Sample::new()?))))
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
        let mut sample = Sample::new().unwrap();
        assert!(sample.percentile(50).is_nan());
        for millis in (1..=200).rev() {
            sample.record(Duration::from_millis(millis));
        }
        let percentile = |percent| sample.percentile(percent).round() as i64;
        assert_eq!((percentile(50), percentile(99), percentile(100)), (100, 198, 200));
    }

    #[test]
    fn tasks_add_to_one_shared_sample() {
        let shared = SharedSample::new().unwrap();
        shared.clone().record(Duration::from_millis(3));
        shared.record(Duration::from_millis(5));
        assert_eq!(shared.snapshot().len(), 2);
    }

    #[test]
    fn extended_sample_has_the_measurements_of_both() {
        let mut sample = Sample::new().unwrap();
        let mut other = Sample::new().unwrap();
        sample.record(Duration::from_nanos(100));
        other.record(2 * LONGEST);
        sample.extend(&other);
        assert_eq!(sample.len(), 2);
        assert!(sample.percentile(50) < 0.001);
        assert!((sample.percentile(100) / 3_600_000.0 - 1.0).abs() < 0.001, "{}", sample.percentile(100));
    }
}
