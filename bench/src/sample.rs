//! This module collects the latencies of calls and returns percentiles of the latencies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Error;

/// Number of significant decimal digits that a histogram keeps. A percentile is therefore at most 0.1 % too large.
const SIGNIFICANT_DIGITS: u8 = 3;
/// The longest latency that a histogram can store. The histogram records a longer latency as `LONGEST`.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The measured latencies of one kind of call, in nanoseconds. A sample takes 260 KiB of memory for any number of
/// latencies.
#[derive(Debug, Clone)]
pub struct Sample(Histogram<u64>);

impl Sample {
    /// Returns a sample without measurements. Fails only if the histogram does not accept `LONGEST` and
    /// `SIGNIFICANT_DIGITS`.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Histogram::new_with_bounds(1, to_nanos(LONGEST), SIGNIFICANT_DIGITS)?))
    }

    /// Adds one measured latency to the sample.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(to_nanos(time));
    }

    /// Returns the number of measurements in the sample.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Adds all measurements of another sample to this sample.
    pub fn extend(&mut self, other: &Self) {
        // The addition panics only for histograms with different bounds, and all samples have equal bounds.
        self.0 += &other.0;
    }

    /// Returns the smallest latency, in milliseconds, that `percent` % of the measurements do not exceed. Returns NaN
    /// if the sample is empty.
    pub fn percentile(&self, percent: u8) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        Duration::from_nanos(self.0.value_at_percentile(percent.into())).as_secs_f64() * 1_000.0
    }
}

fn to_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A sample to which several Tokio tasks add measurements.
#[derive(Debug, Clone)]
pub struct SharedSample(Arc<Mutex<Sample>>);

impl SharedSample {
    /// Returns a shared sample without measurements. Fails only if the histogram of the sample can't be created.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Arc::new(Mutex::new(Sample::new()?))))
    }

    /// Adds one measured latency to the sample.
    pub fn record(&self, time: Duration) {
        self.lock().record(time);
    }

    /// Returns a sample with a copy of all measurements that have been added.
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
    fn clones_of_a_shared_sample_add_to_one_sample() {
        let shared = SharedSample::new().unwrap();
        shared.clone().record(Duration::from_millis(3));
        shared.record(Duration::from_millis(5));
        assert_eq!(shared.snapshot().len(), 2);
    }

    #[test]
    fn extend_adds_the_measurements_of_another_sample() {
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
