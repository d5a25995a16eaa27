//! This module defines `Timestamp`, a point in time, the conversions from and to other formats of a time, and
//! `ClockStep`, the change of a clock that was set.

/// Represents a point in time, in microseconds since the Unix epoch. SQLite and PostgreSQL both store microseconds
/// exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

const MICROS: i64 = 1_000_000;

/// The range of google.protobuf.Timestamp, which covers the years 1 to 9999, in seconds since the Unix epoch.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Timestamp {
    /// Returns the time that is `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the time that is `seconds` and `nanos` after the Unix epoch, rounded down to a whole microsecond.
    /// Returns None if the time is outside the years 1 to 9999, or if `nanos` is not between 0 and 999,999,999.
    pub fn from_seconds_and_nanos(seconds: i64, nanos: i32) -> Option<Self> {
        let valid = SECONDS.contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        valid.then(|| Self(seconds * MICROS + i64::from(nanos) / 1_000))
    }

    /// Returns the number of microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch and the remaining nanoseconds.
    pub fn seconds_and_nanos(self) -> (i64, i32) {
        let nanos = self.0.rem_euclid(MICROS) * 1_000;
        (self.0.div_euclid(MICROS), i32::try_from(nanos).unwrap_or(0))
    }

    /// Returns the time as RFC 3339 text in UTC, with a precision of one microsecond.
    pub fn to_text(self) -> String {
        let (seconds, nanos) = self.seconds_and_nanos();
        prost_types::Timestamp { seconds, nanos }.to_string()
    }

    /// Returns the time that is `duration` after this time, but at most the end of the year 9999.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let last = SECONDS.end() * MICROS;
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)).min(last))
    }

    /// Returns the duration from `earlier` to this time, or 0 if `earlier` is later than this time.
    pub fn duration_since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the time that is `duration` before this time.
    pub fn subtract_duration(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Returns the time that a clock shows after `step`, if the clock would show this time without the step.
    pub fn after_step(self, step: ClockStep) -> Self {
        Self(self.0.saturating_add(step.0))
    }
}

/// Represents the change of a clock that was set, in microseconds. If the clock was set back, the number is negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockStep(i64);

impl ClockStep {
    /// The clock was not set.
    pub const NONE: Self = Self(0);

    /// Returns the step of a clock that showed `before` and was then set to `after`.
    pub fn between(before: Timestamp, after: Timestamp) -> Self {
        Self(after.0.saturating_sub(before.0))
    }

    /// Returns the step in microseconds.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Returns the duration by which the clock was set forward or back.
    pub fn size(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }

    /// Returns the step that has the same effect as this step followed by `next`.
    pub fn then(self, next: Self) -> Self {
        Self(self.0.saturating_add(next.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_1970_keeps_its_fraction() {
        let time = Timestamp::from_seconds_and_nanos(-1, 500_000_999).unwrap();
        assert_eq!(time.seconds_and_nanos(), (-1, 500_000_000));
    }

    #[test]
    fn step_moves_a_time_forward_or_back() {
        let (early, late) = (Timestamp::from_micros(5), Timestamp::from_micros(8));
        let back = ClockStep::between(late, early);
        assert_eq!((back.micros(), back.size().as_micros()), (-3, 3));
        assert_eq!(late.after_step(back), early);
        assert_eq!(back.then(ClockStep::between(early, late)), ClockStep::NONE);
    }

    #[test]
    fn time_outside_the_years_1_to_9999_is_none() {
        assert_eq!(Timestamp::from_seconds_and_nanos(253_402_300_800, 0), None);
        assert_eq!(Timestamp::from_seconds_and_nanos(0, 1_000_000_000), None);
        assert_eq!(Timestamp::from_seconds_and_nanos(0, -1), None);
    }
}
