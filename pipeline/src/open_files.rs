//! How many files, sockets among them, this process may open.

/// Raises the limit that holds to the highest that the system lets this process have.
///
/// Shells and service managers start programs with 1,024, which is there for the sake of `select`, and fewer than the
/// clients that an `api` is meant to bear.
pub fn raise() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use rlimit::Resource;

    use super::*;

    #[test]
    fn the_limit_becomes_the_highest_that_there_may_be() {
        let (_, most) = Resource::NOFILE.get().expect("every process has a limit");
        Resource::NOFILE.set(most - 1, most).expect("one may always have less");
        raise();
        assert_eq!(Resource::NOFILE.get().expect("a limit"), (most, most));
    }
}
