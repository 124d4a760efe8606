//! How many requests each client address may make: a token bucket for each.
//!
//! Bounded: the addresses that were quiet longest make room. Time is handed in.

use std::collections::HashMap;
use std::net::IpAddr;

use sluice_stages::slot::Timestamp;

/// Addresses that are told apart.
const ADDRESSES_CAPACITY: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
}

/// The buckets.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: HashMap<IpAddr, Bucket>,
}

impl RateLimit {
    /// Buckets that hold `burst` and fill at `per_second`.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst), buckets: HashMap::new() }
    }

    /// Takes a token for a request of `address`.
    ///
    /// # Errors
    /// The seconds after which there is one again, rounded up.
    pub(super) fn take(&mut self, now: Timestamp, address: IpAddr) -> Result<(), u64> {
        let (per_second, burst) = (self.per_second, self.burst);
        if !self.buckets.contains_key(&address) && self.buckets.len() >= ADDRESSES_CAPACITY {
            self.make_room(now);
        }
        let bucket = self.buckets.entry(address).or_insert(Bucket { tokens: burst, filled_at: now });
        let filled = bucket.tokens + now.since(bucket.filled_at).as_secs_f64() * per_second;
        (bucket.tokens, bucket.filled_at) = (filled.min(burst), now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(((1.0 - bucket.tokens) / per_second).ceil() as u64)
    }

    /// Forgets addresses whose bucket is full again; if none is, the one that was quiet longest.
    fn make_room(&mut self, now: Timestamp) {
        let (per_second, burst) = (self.per_second, self.burst);
        self.buckets.retain(|_, bucket| {
            bucket.tokens + now.since(bucket.filled_at).as_secs_f64() * per_second < burst
        });
        if self.buckets.len() >= ADDRESSES_CAPACITY {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.filled_at);
            if let Some(address) = oldest.map(|(&address, _)| address) {
                self.buckets.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_interval() {
        let mut limit = RateLimit::new(2, 3);
        let now = Timestamp(1_000_000);
        let passed = (0..5).filter(|_| limit.take(now, address(1)).is_ok()).count();
        assert_eq!(passed, 3);
        assert_eq!(limit.take(now, address(1)), Err(1));
        assert_eq!(limit.take(now, address(2)), Ok(()), "another address has its own");
        assert_eq!(limit.take(now.after(Duration::from_millis(500)), address(1)), Ok(()));
        assert_eq!(limit.take(now.after(Duration::from_millis(500)), address(1)), Err(1));
    }

    #[test]
    fn addresses_are_bounded() {
        let mut limit = RateLimit::new(1, 1);
        for number in 0..10_000 {
            limit.take(Timestamp(u64::from(number)), address(number)).expect("the first of each");
        }
        assert!(limit.buckets.len() <= ADDRESSES_CAPACITY);
    }
}
