use super::*;
use crate::clock::ManualClock;
use crate::domain::time::Timestamp;

fn step(stalls: &mut Stalls, clock: &ManualClock, seconds: u64) -> bool {
    let begun = clock.uptime();
    clock.stall(Duration::from_secs(seconds));
    stalls.count(begun, clock)
}

#[test]
fn slow_commits_that_follow_each_other_count_once() {
    let clock = ManualClock::starting_at(Timestamp::from_micros(0));
    let mut stalls = Stalls::default();
    assert!(!stalls.count(clock.uptime(), &clock), "no time has passed");
    assert!(step(&mut stalls, &clock, 2));
    assert!(!step(&mut stalls, &clock, 2));
    assert!(step(&mut stalls, &clock, 10), "a long stall always counts");
    clock.advance(PAUSE);
    assert!(step(&mut stalls, &clock, 2));
}
