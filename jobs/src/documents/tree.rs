//! Which notes are merged together.

use std::ops::Range;

/// Notes in groups, in order and each in one: as many to a group as fit together, which `fit` says of two or more. A note
/// that fits with no neighbour is a group of its own and goes up a level as it is.
///
/// # Errors
/// What `fit` says.
pub fn groups<E>(
    notes: usize,
    mut fit: impl FnMut(Range<usize>) -> Result<bool, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut groups = Vec::new();
    let mut from = 0;
    while from < notes {
        // All but the last group hold about as much as the one before.
        let last: usize = groups.last().map_or(2, Range::len);
        let mut fits = from + 1;
        let mut beyond = notes + 1;
        let mut probe = if groups.is_empty() { notes } else { (from + last.max(2)).min(notes) };
        while fits + 1 < beyond {
            let probed = probe.clamp(fits + 1, beyond - 1);
            match fit(from..probed)? {
                true => fits = probed,
                false => beyond = probed,
            }
            probe = match beyond > notes {
                true => from + 2 * (fits - from),
                false => fits + (beyond - fits) / 2,
            };
        }
        groups.push(from..fits);
        from = fits;
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    proptest! {
        #[test]
        fn notes_end_as_one_and_no_merge_overflows(
            mut notes in prop::collection::vec(0usize..60, 1..300), budget in 130usize..600
        ) {
            // A note takes its tokens and four for what stands around it; two of the longest fit.
            let mut levels = 0;
            while notes.len() > 1 {
                let size = |range: &Range<usize>| notes[range.clone()].iter().map(|n| n + 4).sum::<usize>();
                let groups = groups(notes.len(), |range| Ok::<_, Infallible>(size(&range) <= budget)).unwrap();
                prop_assert_eq!(groups[0].start, 0);
                prop_assert_eq!(groups.last().unwrap().end, notes.len());
                prop_assert!(groups.windows(2).all(|pair| pair[0].end == pair[1].start));
                for (i, group) in groups.iter().enumerate() {
                    prop_assert!(size(group) <= budget && !group.is_empty());
                    let more = group.start..(group.end + 1).min(notes.len());
                    prop_assert!(i + 1 == groups.len() || size(&more) > budget, "more would fit");
                }
                prop_assert!(groups.iter().any(|group| group.len() > 1));
                // What is merged is as long as any note may be.
                notes = groups.iter().map(|g| if g.len() == 1 { notes[g.start] } else { 59 }).collect();
                levels += 1;
            }
            prop_assert!(levels < 20);
        }
    }

    #[test]
    fn a_note_that_fits_with_none_goes_up_alone() {
        let sizes = [3usize, 3, 9, 3, 3];
        let fit = |range: Range<usize>| Ok::<_, Infallible>(sizes[range].iter().sum::<usize>() <= 9);
        assert_eq!(groups(5, fit).unwrap(), [0..2, 2..3, 3..5]);
        assert!(groups(0, |_| Ok::<_, Infallible>(true)).unwrap().is_empty());
        assert_eq!(groups(4, |_| Ok::<_, Infallible>(false)).unwrap(), [0..1, 1..2, 2..3, 3..4]);
    }
}
