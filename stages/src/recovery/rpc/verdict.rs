//! What the errors of several nodes, asked the same, amount to.

use std::time::Duration;

use super::error::FetchError;

/// When to come back to nodes of which one may answer at any time, while another is left alone for longer.
const COME_BACK: Duration = Duration::from_secs(2);

/// The most telling of `errors`, with the shortest wait after which one of the nodes may answer.
pub(crate) fn verdict(errors: Vec<FetchError>) -> FetchError {
    let wait = errors.iter().filter(|error| error.is_retryable()).map(wait).min();
    let is_only_one = errors.len() == 1;
    // Of equals the first one: it came from the better node.
    let told = errors.into_iter().rev().max_by_key(weight);
    match (told, wait) {
        (Some(told), Some(wait)) if !is_only_one => told.with_wait(wait),
        (Some(told), _) => told,
        (None, _) => FetchError::Transport("there is no rpc node".to_owned()),
    }
}

/// Whether no node was sent anything because all of them asked for a pause.
pub(crate) fn all_paused(errors: &[FetchError]) -> bool {
    errors.iter().all(|error| matches!(error, FetchError::Paused { .. }))
}

fn wait(error: &FetchError) -> Duration {
    error.retry_after().unwrap_or(COME_BACK)
}

/// How much an error says of what was asked for. A node that will answer later may have what the others lack, so what they
/// say proves nothing until then.
fn weight(error: &FetchError) -> u8 {
    match error {
        FetchError::ClaimedSkipped { .. } => 6,
        FetchError::RateLimited { .. } | FetchError::Unavailable { .. } | FetchError::Paused { .. } => 5,
        FetchError::NotAvailableYet { .. } => 4,
        FetchError::CleanedUp { .. } => 3,
        FetchError::Malformed { .. } => 2,
        FetchError::Transport(_) | FetchError::Resting { .. } => 1,
        FetchError::Refused { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn paused() -> FetchError {
        FetchError::Paused { retry_after: HOUR }
    }

    #[test]
    fn what_others_lack_a_node_in_a_pause_may_have() {
        let gone = FetchError::CleanedUp { slot: 1, first_available: None };
        let told = verdict(vec![gone, paused()]);
        assert!(matches!(told, FetchError::Paused { retry_after: HOUR }), "{told}");
    }

    #[test]
    fn a_pause_of_one_node_does_not_keep_from_asking_another() {
        for other in [FetchError::Transport("reset".to_owned()), FetchError::NotAvailableYet { slot: 1 }] {
            let told = verdict(vec![paused(), other]);
            assert!(matches!(told, FetchError::Paused { retry_after: COME_BACK }), "{told}");
        }
        let shortest = Duration::from_millis(300);
        let told = verdict(vec![paused(), FetchError::Resting { retry_after: shortest }]);
        assert_eq!(told.retry_after(), Some(shortest));
    }

    #[test]
    fn one_node_is_taken_at_its_word() {
        let limited = FetchError::RateLimited { retry_after: None };
        assert_eq!(verdict(vec![limited]).retry_after(), None);
        assert!(matches!(verdict(Vec::new()), FetchError::Transport(_)));
        assert!(
            all_paused(&[paused(), paused()])
                && !all_paused(&[paused(), FetchError::NotAvailableYet { slot: 1 }])
        );
    }
}
