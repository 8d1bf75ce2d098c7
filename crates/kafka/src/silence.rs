//! Whether nothing is heard because nothing is there.

/// A reader's look at where it is and where the partition ends, time and again.
///
/// A topic that is deleted and made anew begins again with leader epoch 0. librdkafka takes what it
/// hears of it for older than what it knows, and stays silent for ever.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    /// The next offset and the end at the last look.
    looked: Option<(i64, i64)>,
}

impl Silence {
    /// Looks: whether records pass the reader by that is to read `next`. What only just came is on
    /// its way; and what stands before the end for ever may be no record.
    pub fn is_deafness(&mut self, next: i64, end: i64) -> bool {
        let before = self.looked.replace((next, end));
        // It is another topic's end, or it went on twice while we did not.
        end < next || before.is_some_and(|(then, seen)| then == next && seen > next && end > seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_silence_means() {
        let mut silence = Silence::default();
        for (next, end, deaf, why) in [
            (10, 10, false, "nothing came"),
            (10, 11, false, "it may be on its way"),
            (10, 12, true, "the first of them isn't"),
            (12, 15, false, "we heard some"),
            (12, 15, false, "what is left there may be no record"),
            (14, 20, false, "we heard some"),
            (14, 3, true, "another topic"),
        ] {
            assert_eq!(silence.is_deafness(next, end), deaf, "{why}");
        }
    }
}
