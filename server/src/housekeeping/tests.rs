//! The tests in this module check which rows are old after the clock was set.

use super::*;
use crate::clock::ManualClock;

const HOUR: Duration = Duration::from_secs(3_600);
const KEEP: RetentionTimes = RetentionTimes { requests_for: HOUR, events_for: None };

/// Sets the wall clock by a number of hours, and lets the server follow.
fn step(clock: &ManualClock, past: &mut PastTimes, hours: i32) {
    match hours {
        0.. => clock.set_forward(HOUR * hours.unsigned_abs()),
        _ => clock.set_back(HOUR * hours.unsigned_abs()),
    }
    clock.adopt(clock.step());
    past.record(clock, KEEP);
}

fn pass(clock: &ManualClock, past: &mut PastTimes, by: Duration) {
    clock.advance(by);
    past.record(clock, KEEP);
}

#[test]
fn nothing_is_old_before_the_retention_time_has_really_passed() {
    for hours in [24, 24 * 31] {
        let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(HOUR * 10_000));
        let mut past = PastTimes::new(&clock);
        let start = clock.now();
        pass(&clock, &mut past, HOUR / 2);
        step(&clock, &mut past, hours);
        let after_step = clock.now();
        assert_eq!(past.oldest_since(HOUR), start.subtract_duration(HOUR / 2));
        pass(&clock, &mut past, HOUR - Duration::from_secs(1));
        assert_eq!(past.oldest_since(HOUR), start.plus(HOUR / 2 - Duration::from_secs(1)));
        // An hour after the step, the rows from before the step are old.
        pass(&clock, &mut past, Duration::from_secs(2));
        assert_eq!(past.oldest_since(HOUR), after_step.plus(Duration::from_secs(1)));
    }
}

#[test]
fn rows_that_were_stored_after_a_step_back_are_kept_for_the_retention_time() {
    let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(HOUR * 10_000));
    let mut past = PastTimes::new(&clock);
    pass(&clock, &mut past, HOUR / 2);
    step(&clock, &mut past, -24);
    let after_step = clock.now();
    assert_eq!(past.oldest_since(HOUR), after_step);
    pass(&clock, &mut past, HOUR * 2);
    assert_eq!(past.oldest_since(HOUR), after_step.plus(HOUR));
    assert_eq!(past.periods.len(), 1, "the period before the step is forgotten");
}

#[test]
fn time_before_the_start_counts_as_passed() {
    let clock = ManualClock::starting_at(Timestamp::from_micros(0).plus(HOUR * 10_000));
    clock.advance(HOUR);
    let past = PastTimes::new(&clock);
    assert_eq!(past.oldest_since(HOUR * 5), clock.now().subtract_duration(HOUR * 5));
}
