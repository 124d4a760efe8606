//! "Did you mean".

/// The candidate that `word` was probably meant to be.
///
/// A third of the letters may be wrong, and one in short words.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, delete, replace, or swap with their neighbour, to turn `from` into `to`.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row];
        for column in 1..=to.len() {
            let replaced = last[column - 1] + usize::from(from[row - 1] != to[column - 1]);
            let mut best = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped =
                row > 1 && column > 1 && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1];
            if swapped {
                best = best.min(before_last[column - 2] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let kinds = ["merge", "dedupe", "parquet", "yellowstone"];
        for (typed, meant) in
            [("dedup", "dedupe"), ("megre", "merge"), ("parket", "parquet"), ("yellow_stone", "yellowstone")]
        {
            assert_eq!(suggest(typed, kinds), Some(meant), "{typed}");
        }
    }

    #[test]
    fn another_word_is_not_taken_for_a_slip() {
        assert_eq!(suggest("kafka", ["merge", "parquet"]), None);
        assert_eq!(suggest("", ["merge"]), None);
    }

    #[test]
    fn the_nearest_of_several_wins() {
        assert_eq!(suggest("capacity_item", ["capacity_bytes", "capacity_items"]), Some("capacity_items"));
    }

    #[test]
    fn distances_are_exact() {
        for (from, to, expected) in [("", "", 0), ("", "ab", 2), ("ab", "ba", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}
